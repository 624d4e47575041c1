"""What bounds each layer: arithmetic, moving its bytes, or neither. Pure functions of what was measured.

Williams, Waterman, Patterson: Roofline (CACM 52/4, 2009), of the forward alone: its FLOPs are known exactly. Backward
has twice as many where weights and inputs need gradients, but whether inputs do is not seen (those of the first layer
do not), so that no rate is made of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from torchtop.record import MachineSample

CALIBRATED = "calibrated"  # one core's rate, measured, times the cores that the rank has
PUBLISHED = "published"  # by the vendor of the GPU
BEST_LAYER = "best layer of this job"

_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2, "int8": 1, "uint8": 1}
_OVERHEAD_S = 1e-4  # s of one forward call; a layer below is bound by overhead (gpu-regime-profiler 1.1.0)
_NEED = 0.25  # share of its time that a layer at least needs for its work, else it is far above that

Bound = Literal["compute", "bandwidth", "overhead"]


class Peaks(NamedTuple):
    """flops_per_s: (dtype, FLOP/s); bytes_per_s: of memory; source: CALIBRATED, PUBLISHED or BEST_LAYER."""

    flops_per_s: tuple[tuple[str, float], ...]
    bytes_per_s: float | None
    source: str

    def flops_of(self, dtype: str | None) -> float | None:
        """FLOP/s in `dtype`; None where it is not known."""
        return next((rate for name, rate in self.flops_per_s if name == dtype), None)


class Work(NamedTuple):
    """Forward of one layer per step. flops, bytes: None where not known; bytes is a lower bound."""

    flops: float | None
    bytes: float | None
    seconds: float | None
    calls: float
    dtype: str | None


class Place(NamedTuple):
    """Where a layer stands under the roofline; None: not known. share: 0..1 of the peak of what bounds it."""

    flops_per_s: float | None = None
    bytes_per_s: float | None = None
    bound_by: Bound | None = None
    share: float | None = None
    source: str | None = None


def of_machine(machine: MachineSample | None, threads: int | None) -> Peaks | None:
    """Peaks of the cores that one rank has: as many as it has threads, and may use. None: never calibrated."""
    core = machine.core if machine is not None else None
    if machine is None or core is None or machine.usable_cores is None:
        return None
    cores = machine.usable_cores if threads is None else min(float(threads), machine.usable_cores)
    rates = (("float32", core.float32_flops_per_s), ("bfloat16", core.bfloat16_flops_per_s))
    known = tuple((dtype, rate * cores) for dtype, rate in rates if rate is not None)
    copied = core.copy_bytes_per_s
    return Peaks(known, copied * cores if copied is not None else None, CALIBRATED) if known else None


def of_device(flops_per_s: dict[str, float], bytes_per_s: float | None, tf32: bool) -> Peaks:
    """Published peaks. tf32: matrix products in float32 may use TF32."""
    rates = dict(flops_per_s)
    if tf32 and "tf32" in rates:
        rates["float32"] = rates["tf32"]
    return Peaks(tuple(sorted(rates.items())), bytes_per_s, PUBLISHED)


def forward_bytes(
    kind: str,
    parameter_bytes: int,
    calls: float,
    shape: Sequence[int] | None,
    elements: float | None,
    flops_per_output: float | None,
    dtype: str | None,
) -> float | None:
    """Bytes that forward moves at least, per step: weights once a call, outputs, and inputs where their size is told.

    elements: of all outputs of a step; flops_per_output: by element of the output.
    """
    size = _BYTES.get(dtype or "")
    if size is None or elements is None:
        return None
    inputs = 0.0
    if kind == "Linear" and shape and shape[-1] and flops_per_output:
        inputs = elements / shape[-1] * flops_per_output / 2
    return parameter_bytes * calls + (elements + inputs) * size


def placed(works: Sequence[Work], peaks: Peaks | None) -> list[Place]:
    """Each layer under the roofline. Without peaks, the best rates that any layer of `works` reached stand for them."""
    rates = [(_rate(work.flops, work.seconds), _rate(work.bytes, work.seconds)) for work in works]
    found = []
    best = peaks if peaks is not None else best_of(works)
    for work, (flops_per_s, bytes_per_s) in zip(works, rates, strict=True):
        place = Place(flops_per_s, bytes_per_s)
        if flops_per_s is not None and bytes_per_s is not None and work.seconds:
            place = _bound(work, place, best)
        found.append(place)
    return found


def best_of(works: Sequence[Work]) -> Peaks:
    """The best rates that layers reached, by dtype."""
    flops: dict[str, float] = {}
    moved = 0.0
    for work in works:
        rate = _rate(work.flops, work.seconds)
        if rate is not None and work.dtype is not None and rate > flops.get(work.dtype, 0.0):
            flops[work.dtype] = rate
        moved = max(moved, _rate(work.bytes, work.seconds) or 0.0)
    return Peaks(tuple(sorted(flops.items())), moved or None, BEST_LAYER)


def _bound(work: Work, place: Place, peaks: Peaks) -> Place:
    peak_flops, peak_bytes = peaks.flops_of(work.dtype), peaks.bytes_per_s
    if not peak_flops or not peak_bytes or not work.seconds:
        return place
    of_compute = (place.flops_per_s or 0.0) / peak_flops
    of_memory = (place.bytes_per_s or 0.0) / peak_bytes
    share = max(of_compute, of_memory)
    if share < _NEED and work.calls and work.seconds / work.calls < _OVERHEAD_S:
        bound: Bound = "overhead"
    else:
        bound = "compute" if of_compute >= of_memory else "bandwidth"
    return place._replace(bound_by=bound, share=share, source=peaks.source)


def _rate(amount: float | None, seconds: float | None) -> float | None:
    return amount / seconds if amount is not None and seconds else None
