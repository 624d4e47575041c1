"""Published peak rates of GPUs, by the name that NVML gives: dense, not with sparsity; boost clock; no measurement.

Source: NVIDIA's datasheet of each, as at least two published lists that agree have it (the tables of device peaks in
PyTorch, Lightning and torchtitan, databases of graphics cards); what only one has is left out. Tensor core rates are
without sparsity: for Hopper and the L4, datasheets print twice as much. A name that is not here has no peak: cards of
one family differ by half, so nothing is inferred.
"""

from __future__ import annotations

import re
from typing import NamedTuple

FIELDS = ("peak_flops_per_s", "peak_memory_bytes_per_s")


class Peaks(NamedTuple):
    """flops_per_s: FLOP/s by dtype; memory_bytes_per_s: bytes/s of device memory."""

    flops_per_s: dict[str, float]
    memory_bytes_per_s: float


def _tera(memory: float, float32: float, **tensor: float) -> Peaks:
    """From TFLOP/s and TB/s, as datasheets have them."""
    rates = {"float32": float32, **tensor}
    return Peaks({dtype: rate * 1e12 for dtype, rate in rates.items()}, memory * 1e12)


_A100 = {"float32": 19.5, "tf32": 156, "bfloat16": 312, "float16": 312}
_HOPPER_SXM = {"float32": 66.9, "tf32": 494.7, "bfloat16": 989.4, "float16": 989.4, "float8": 1978.9}

# Names are matched whole. "32GB" and "16GB" of one V100 differ in size only.
_PUBLISHED = {
    r"Tesla V100-SXM2-(16|32)GB": _tera(0.9, float32=15.7, float16=125),
    r"Tesla V100-PCIE-(16|32)GB": _tera(0.9, float32=14, float16=112),
    r"(Tesla|NVIDIA) T4": _tera(0.32, float32=8.1, float16=65),
    r"(NVIDIA )?A100-(SXM4|PCIE)-40GB": _tera(1.555, **_A100),
    r"(NVIDIA )?A100-SXM4-80GB": _tera(2.039, **_A100),
    r"NVIDIA A100 80GB PCIe": _tera(1.935, **_A100),
    r"NVIDIA A10": _tera(0.6, float32=31.2, tf32=62.5, bfloat16=125, float16=125),
    r"NVIDIA A30": _tera(0.933, float32=10.3, bfloat16=165, float16=165),
    r"NVIDIA L4": _tera(0.3, float32=30.3, tf32=60, bfloat16=121, float16=121, float8=242),
    r"NVIDIA L40S": _tera(0.864, float32=91.6, tf32=183, bfloat16=362, float16=362, float8=733),
    r"NVIDIA H100 80GB HBM3": _tera(3.35, **_HOPPER_SXM),
    r"NVIDIA H200": _tera(4.8, **_HOPPER_SXM),
}


def published(name: str | None, is_mig: bool) -> Peaks | str:
    """The peaks of the device with this NVML name, or the reason why there are none."""
    if is_mig:
        return "peaks are published for whole devices, not for MIG instances"
    for pattern, peaks in _PUBLISHED.items():
        if name is not None and re.fullmatch(pattern, name):
            return peaks
    return "no published peak rates are known for a device of this name"
