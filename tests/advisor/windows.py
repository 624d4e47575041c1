"""Windows by hand: a healthy job on a CPU, on a GPU, of two ranks; and what to change in them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from torchtop.record import GpuSample, HostSample, ProcessSample, StepRow
from torchtop.seen import (
    DeviceSeen,
    DistributedFacts,
    Facts,
    LoaderFacts,
    OptimizerFacts,
    Phase,
    RankSeen,
    Seen,
)
from torchtop.snapshot import Layer

PID = 4001
NOW = 1_000.0
WINDOW_S = 20.0
STEP_S = 0.1
GIB = 2**30

# Of a step: what a healthy transformer on a CPU spends.
PARTS = {"data": 0.005, "forward": 0.32, "backward": 0.6, "optimizer": 0.05}


def rows(
    count: int = 180, step_s: float = STEP_S, noise: float = 0.02, flags: int = 0, end: float = NOW, **parts: float
) -> tuple[StepRow, ...]:
    """Steps one after the other until `end`; parts: shares of the step. The same call gives the same rows."""
    lot = random.Random(1)
    shares = {**PARTS, **parts}
    lengths = [step_s * (1 + noise * (lot.random() - 0.5)) for _ in range(count)]
    left = sum(lengths)
    found = []
    for length in lengths:
        left -= length
        found.append(
            StepRow(
                t_end=end - left,
                step_s=length,
                flags=flags,
                micro_steps=1,
                samples=32.0,
                data_s=shares["data"] * length,
                backward_s=shares["backward"] * length,
                optimizer_s=shares["optimizer"] * length,
                backward_wait_s=0.01 * shares["backward"] * length,
            )
        )
    return tuple(found)


def phases(count: int = 12, step_s: float = STEP_S, **parts: float) -> tuple[Phase, ...]:
    """Armed steps; what the parts leave of a step is `other`."""
    shares = {**PARTS, **parts}
    rest = 1 - sum(shares.get(name, 0.0) for name in ("data", "forward", "backward", "optimizer", "transfer"))
    rest -= shares.get("communication", 0.0)
    one = Phase(
        step_s=step_s,
        data=shares["data"] * step_s,
        transfer=shares["transfer"] * step_s if "transfer" in shares else None,
        forward=shares["forward"] * step_s,
        backward=shares["backward"] * step_s,
        optimizer=shares["optimizer"] * step_s,
        communication=shares["communication"] * step_s if "communication" in shares else None,
        other=max(rest, 0.0) * step_s,
    )
    return (one,) * count


def layer(name: str, share: float, type: str = "Linear", **changes: Any) -> Layer:
    """A layer that takes `share` of a step of STEP_S, a third of it forward."""
    own_s = share * STEP_S
    fields: dict[str, Any] = {
        "rank": 0,
        "name": name,
        "type": type,
        "calls": 1.0,
        "forward_s": own_s / 3,
        "backward_s": own_s * 2 / 3,
        "self_forward_s": own_s / 3,
        "self_backward_s": own_s * 2 / 3,
        "recompute_s": None,
        "share": share,
        "parameters": 1_000_000,
        "parameter_bytes": 4_000_000,
        "activation_bytes": 4_000_000,
        "output_shape": (32, 128, 512),
        "flops": 2 * 32 * 128 * 512 * 2048.0,
        "dtype": "float32",
    }
    return Layer(**{**fields, **changes})


def healthy_layers() -> tuple[Layer, ...]:
    """Eight blocks of equal weight, and a root that holds them."""
    root = layer("", 0.01, "GPT", parameters=0, parameter_bytes=0, flops=None, activation_bytes=None)
    return (root, *(layer(f"blocks.{at}.fc", 0.11) for at in range(8)))


def process(t: float, pid: int = PID, rank_pid: int = PID, **changes: Any) -> ProcessSample:
    """One reading of a process that computes on one core."""
    fields: dict[str, Any] = {
        "state": "R",
        "cpu_share": 1.0,
        "rss_bytes": GIB,
        "threads": 12,
        "read_bytes_per_s": 0.0,
        "write_bytes_per_s": 0.0,
        "involuntary_switches_per_s": 3.0,
        "cgroup_memory_limit_bytes": None,
        "cgroup_memory_bytes": None,
        "run_delay_share": 0.005,
        "major_faults_per_s": 0.0,
    }
    return ProcessSample(t=t, pid=pid, rank_pid=rank_pid, **{**fields, **changes})


def processes(count: int = 20, **changes: Any) -> tuple[ProcessSample, ...]:
    """A reading a second until NOW."""
    return tuple(process(NOW - count + 1 + at, **changes) for at in range(count))


def host(t: float, **changes: Any) -> HostSample:
    """One reading of a quiet machine of 8 CPUs and 64 GiB."""
    fields: dict[str, Any] = {
        "cpus": 8,
        "cpu_util": 0.14,
        "load1": 1.2,
        "memory_bytes": 64 * GIB,
        "memory_available_bytes": 50 * GIB,
        "swap_used_bytes": 0,
        "cpu_pressure": 0.01,
        "memory_pressure": 0.0,
        "io_pressure": 0.0,
        "disk_read_bytes_per_s": 0.0,
        "disk_write_bytes_per_s": 1e5,
        "net_receive_bytes_per_s": 1e4,
        "net_send_bytes_per_s": 1e4,
        "swap_in_bytes_per_s": 0.0,
        "swap_out_bytes_per_s": 0.0,
    }
    return HostSample(t=t, **{**fields, **changes})


def hosts(count: int = 20, **changes: Any) -> tuple[HostSample, ...]:
    """A reading a second until NOW."""
    return tuple(host(NOW - count + 1 + at, **changes) for at in range(count))


def gpu(t: float, **changes: Any) -> GpuSample:
    """One reading of an H100 that is busy."""
    fields: dict[str, Any] = {
        "index": 0,
        "mig_index": None,
        "uuid": "GPU-0",
        "name": "NVIDIA H100 80GB HBM3",
        "util": 0.97,
        "memory_util": 0.4,
        "memory_used_bytes": 40 * GIB,
        "memory_total_bytes": 80 * GIB,
        "power_w": 560.0,
        "power_limit_w": 700.0,
        "energy_j": 1e6 + 560.0 * t,
        "temperature_c": 62.0,
        "sm_clock_mhz": 1980,
        "sm_clock_max_mhz": 1980,
        "memory_clock_mhz": 2619,
        "throttle_reasons": (),
        "processes": (),
        "pcie_generation": 5,
        "pcie_generation_max": 5,
        "pcie_width": 16,
        "pcie_width_max": 16,
        "ecc_uncorrected": 0,
    }
    return GpuSample(t=t, **{**fields, **changes})


def device(count: int = 20, **changes: Any) -> DeviceSeen:
    """An H100 with a reading a second until NOW."""
    return DeviceSeen(
        readings=tuple(gpu(NOW - count + 1 + at, **changes) for at in range(count)),
        peak_flops_per_s={"float32": 66.9e12, "tf32": 494.7e12, "bfloat16": 989.4e12, "float16": 989.4e12},
        peak_memory_bytes_per_s=3.35e12,
        job_pids=(PID,),
    )


def facts(**changes: Any) -> Facts:
    """AdamW, a loader with two workers, float32 on the CPU."""
    known = Facts(
        threads=1,
        matmul_precision="highest",
        tf32_matmul=False,
        devices=("cpu",),
        dtypes=("float32",),
        roots=("GPT",),
        loader=LoaderFacts(workers=2, prefetch_factor=2, dataset="Bytes", batch_size=32),
        optimizers=(
            OptimizerFacts(kind="AdamW", module="torch.optim.adamw", groups=1, parameters=52, elements=8_000_000),
        ),
        grads_kept=False,
    )
    return replace(known, **changes)


def rank(number: int | None = 0, **changes: Any) -> RankSeen:
    """One healthy rank on a CPU."""
    steps = changes.pop("steps", None) or rows()
    fields: dict[str, Any] = {
        "rank": number,
        "pid": PID + (number or 0),
        "steps": steps,
        "plain": tuple(row for row in steps if not row.flags),
        "excluded": {},
        "phases": phases(),
        "phases_are": "cpu",
        "layers": healthy_layers(),
        "layers_left_out": 0,
        "batch_size": 32.0,
        "micro_batch_size": 32,
        "micro_steps": 1.0,
        "loss": 2.5,
        "loss_finite": True,
        "training": True,
        "compiled": False,
        "facts": facts(),
        "parameters_bytes": 32_000_000,
        "gradients_bytes": 32_000_000,
        "optimizer_bytes": 64_000_000,
        "allocator": (),
        "processes": processes(pid=PID + (number or 0), rank_pid=PID + (number or 0)),
        "workers": {},
        "gc_pauses": (),
        "gc_seconds": 0.0,
        "saves": (),
        "zero_grad": None,
        "stacks": (),
        "stacks_reason": None,
        "weights": None,
        "watched_s": WINDOW_S,
    }
    return RankSeen(**{**fields, **changes})


def seen(*ranks: RankSeen, **changes: Any) -> Seen:
    """A healthy job on a CPU, of one rank unless told."""
    fields: dict[str, Any] = {
        "window_s": WINDOW_S,
        "now": NOW,
        "world_size": len(ranks) or 1,
        "ranks": ranks or (rank(),),
        "slowest": 0,
        "mode": "training",
        "host": hosts(),
        "neighbours": (),
        "devices": (),
        "devices_reason": "no NVIDIA driver",
        "machine": None,
        "usable_cores": 8.0,
    }
    return Seen(**{**fields, **changes})


def on_gpu(*devices: DeviceSeen, **changes: Any) -> Seen:
    """The same job on an H100; changes are of its one rank."""
    changes.setdefault("facts", facts(devices=("cuda",), dtypes=("bfloat16",), cuda=True))
    return seen(rank(phases_are="device", **changes), devices=devices or (device(),), devices_reason=None)


def two_ranks(*changes: dict[str, Any], **of_both: Any) -> Seen:
    """Two ranks over gloo; changes: of each one."""
    both = {
        "facts": facts(
            distributed=DistributedFacts(backend="gloo", rank=0, world_size=2), roots=("DistributedDataParallel",)
        ),
        **of_both,
    }
    given: Sequence[dict[str, Any]] = changes or ({}, {})
    return seen(*(rank(number, **{**both, **change}) for number, change in enumerate(given)))
