"""Windows made of readings that were published: nobody watched them with torchtop.

Each entry of fixtures/gpu_readings.json is one reading of a log, an issue or an article, with its source; `assumed` says
what the source does not give. Held for 20 s it is a window: real numbers, without the noise that a real one has.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from tests.advisor.windows import GIB, NOW, PID, facts, gpu, rank, rows, seen
from torchtop import gpu_peaks
from torchtop.record import GpuProcess, StepRow
from torchtop.seen import DeviceSeen, Facts, Seen
from torchtop.snapshot import Layer

_ENTRIES = msgspec.json.decode((Path(__file__).parents[1] / "fixtures" / "gpu_readings.json").read_bytes())
READINGS: dict[str, dict[str, Any]] = {entry["name"]: entry["reading"] for entry in _ENTRIES}
SOURCES: dict[str, str] = {entry["name"]: entry["source"] for entry in _ENTRIES}

# Most sources give a few numbers of a reading only.
_NOT_GIVEN = dict.fromkeys(
    set(gpu(NOW).__struct_fields__) - {"t", "index", "mig_index", "uuid", "name", "processes", "missing"}
)

# Of "Let's reproduce GPT-2 (124M)" by A. Karpathy (2024), chapters of section 2: s per step of 16 x 1,024 tokens on an
# A100 SXM, after each change, in this order.
GPT2_STEP_S = {"float32": 1.0, "tf32": 0.333, "bfloat16": 0.300, "compiled": 0.130, "flash": 0.096, "padded": 0.093}
GPT2_TOKENS = 16 * 1024


def device(name: str, count: int = 20, **changes: Any) -> DeviceSeen:
    """A GPU that gave this reading once a second until NOW, for a job of process PID."""
    fields = {**_NOT_GIVEN, "processes": (GpuProcess(PID, 30 * GIB),), **READINGS[name], **changes}
    if isinstance(fields.get("throttle_reasons"), list):
        fields["throttle_reasons"] = tuple(fields["throttle_reasons"])
    return of(tuple(gpu(NOW - count + 1 + at, **fields) for at in range(count)))


def of(readings: tuple[Any, ...]) -> DeviceSeen:
    """A GPU with these readings, and the peaks that its vendor publishes."""
    peaks = gpu_peaks.published(readings[-1].name, is_mig=False)
    known = peaks if isinstance(peaks, gpu_peaks.Peaks) else None
    return DeviceSeen(
        readings=readings,
        peak_flops_per_s=known.flops_per_s if known else None,
        peak_memory_bytes_per_s=known.memory_bytes_per_s if known else None,
        job_pids=tuple(one.pid for one in readings[-1].processes or () if one.pid == PID),
    )


def job(*devices: DeviceSeen, **changes: Any) -> Seen:
    """A job of one rank on these GPUs, as it is seen today: the device's own phases and times are not known."""
    changes.setdefault("facts", on_cuda())
    return seen(rank(**{"phases_are": "host", **changes}), devices=devices, devices_reason=None)


def steps(step_s: float) -> tuple[StepRow, ...]:
    """Steps of this length through all 20 s that the GPU was read."""
    return rows(max(round(20.0 / step_s), 10), step_s=step_s)


def on_cuda(**changes: Any) -> Facts:
    """float32 parameters on a GPU, everything else as PyTorch has it unless told."""
    return facts(**{"devices": ("cuda",), "dtypes": ("float32",), "cuda": True, **changes})


def linear(name: str, inputs: int, outputs: int, tokens: int = GPT2_TOKENS, **changes: Any) -> Layer:
    """A Linear layer as it is seen on CUDA: without times."""
    fields: dict[str, Any] = {
        "rank": 0,
        "name": name,
        "type": "Linear",
        "calls": 1.0,
        "forward_s": None,
        "backward_s": None,
        "self_forward_s": None,
        "self_backward_s": None,
        "recompute_s": None,
        "share": None,
        "parameters": inputs * outputs + outputs,
        "parameter_bytes": 4 * (inputs * outputs + outputs),
        "activation_bytes": 4 * tokens * outputs,
        "output_shape": (tokens, outputs),
        "flops": 2.0 * inputs * outputs * tokens,
        "dtype": "float32",
    }
    return Layer(**{**fields, **changes})


def gpt2(dtype: str = "float32", vocabulary: int = 50257) -> tuple[Layer, ...]:
    """The layers of GPT-2 (124M) that multiply, and its 25 norms; its head has no bias."""
    found: list[Layer] = []
    for block in range(12):
        for name, inputs, outputs in (("attn.c_attn", 768, 2304), ("attn.c_proj", 768, 768)):
            found.append(linear(f"h.{block}.{name}", inputs, outputs, dtype=dtype))
        for name, inputs, outputs in (("mlp.c_fc", 768, 3072), ("mlp.c_proj", 3072, 768)):
            found.append(linear(f"h.{block}.{name}", inputs, outputs, dtype=dtype))
    norms = [linear(f"ln_{at}", 1, 768, type="LayerNorm", flops=None, parameters=1536) for at in range(25)]
    head = linear("lm_head", 768, vocabulary, dtype=dtype, parameters=768 * vocabulary)
    return (*norms, *found, head)
