"""gpu-shared: another process uses the same GPU.

Defining inequality: memory of processes that are not the job's >= 0.05 of the device's (warn: and one of them uses >=
0.30 of a core).

## What it does
Compares the driver's list of processes on each GPU of the job with the job's own. A process that keeps the host busy,
too, launches work; one that does not, a forgotten notebook mostly, only takes memory.

## Why it matters
Kernels of two processes take turns on a GPU, so both are slower by an amount that varies; and the memory is missing.

## When it is wrong
In a container the driver names processes by numbers that cannot be compared: not judged. A desktop's few hundred MB are
below the threshold. A process that the job started by itself, other than a loader's worker, is taken for a stranger.
Sharing on purpose (MPS, several trials on one card) is found as well.

## Source
NVML API reference, nvmlDeviceGetComputeRunningProcesses; no other advisor has a threshold. That an active process uses
0.30 of a core is our choice: one that trains keeps a core busy, an idle one is below 0.01. Tested on windows by hand;
not yet seen live.
"""

from __future__ import annotations

from torchtop.advisor.gpus import Gpu, of_job
from torchtop.advisor.judgement import Abstain, Judgement, number
from torchtop.record import GpuProcess
from torchtop.seen import Seen
from torchtop.snapshot import Finding

CODE = "gpu-shared"
NEEDS = ("gpu",)
REMEDIES = ()
MIN_STEPS = 0  # a state, not a mean
INFO = 0.05  # of the device's memory that others hold: more than a desktop or a mere context has
ACTIVE = 0.30  # of a core: a process that launches work keeps one busy, one that waits uses none


def check(seen: Seen) -> Judgement:
    """Judge the GPU of the job on which others hold most."""
    gpus = of_job(seen)
    if isinstance(gpus, Abstain):
        return gpus
    if all(not gpu.device.job_pids for gpu in gpus):
        return Abstain("the driver names processes by numbers of another PID namespace, or not at all")
    found = [one for gpu in gpus if gpu.device.job_pids and (one := _judge(seen, gpu)) is not None]
    return max(found, key=lambda one: (one.severity == "warn", one.share or 0.0)) if found else None


def _judge(seen: Seen, gpu: Gpu) -> Finding | None:
    latest = gpu.latest
    others, total = _others(seen, gpu), latest.memory_total_bytes
    held = sum(one.memory_bytes or 0 for one in others)
    if not others or not total or held < INFO * total:
        return None
    cores = {one.pid: one.cores for one in seen.neighbours or ()}
    busiest = max(others, key=lambda one: (cores.get(one.pid, 0.0), one.memory_bytes or 0))
    is_active = cores.get(busiest.pid, 0.0) >= ACTIVE
    evidence = [
        number("memory of other processes", held, "bytes", seen.window_s),
        number("the same, of the GPU", held / total, "of its memory", seen.window_s),
        number("other processes", len(others), "processes", seen.window_s),
    ]
    if busiest.pid in cores:
        evidence.append(number(f"process {busiest.pid}", cores[busiest.pid], "cores", seen.window_s))
    return Finding(
        code=CODE,
        severity="warn" if is_active else "info",
        confidence="medium" if is_active else "low",
        recoverable_s=None,
        share=held / total,
        evidence=tuple(evidence),
        summary=f"process {busiest.pid} is on {gpu.label}, too: others hold {held / 2**30:.1f} GiB of its memory"
        + (f", and it keeps {cores[busiest.pid]:.1f} cores busy" if is_active else ""),
        where={**gpu.where, "process": busiest.pid},
        remedies=REMEDIES,
    )


def _others(seen: Seen, gpu: Gpu) -> list[GpuProcess]:
    """Processes on it that are neither ranks nor their workers."""
    own = {rank.pid for rank in seen.ranks} | {pid for rank in seen.ranks for pid in rank.workers}
    return [one for one in gpu.latest.processes or () if one.pid not in own]
