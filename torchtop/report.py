"""From the window to the snapshot: the one place that knows both. Pure but for the wall clock it is handed."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Literal, NamedTuple

from torchtop import __version__, gpu_peaks
from torchtop.history import history
from torchtop.layer_report import layers, peaks_of
from torchtop.lens import Lens
from torchtop.record import GpuSample, MachineSample, ProcessSample
from torchtop.snapshot import (
    Attach,
    CollectorHealth,
    Device,
    DeviceProcess,
    Distribution,
    Frame,
    Health,
    Host,
    Job,
    Machine,
    Memory,
    MonitorHealth,
    Phases,
    ProbeHealth,
    Rank,
    Snapshot,
    Stack,
    Steps,
)
from torchtop.step_statistics import StepStatistics, phases, phases_of_compiled, statistics
from torchtop.window import RankWindow, Window

_HOST_ONLY = "the device's time between the phases is not put together yet: host_phases_s has the host's"
_AS_SLOW = 0.02  # share of the slowest rank's step by which another may be faster and count as no less slow
_STACKS = 64  # threads in one snapshot


class RankInfo(NamedTuple):
    """What the session knows of a rank beside its readings."""

    pid: int
    rank: int | None
    local_rank: int | None
    state: str
    reason: str | None
    attach: Attach | None
    stage: Literal["attaching", "reconnecting", "ended", "replaced"] | None = None


class Context(NamedTuple):
    """What the session knows beside the window."""

    job_id: str
    command: str
    world_size: int | None
    ranks: tuple[RankInfo, ...]
    collectors: tuple[CollectorHealth, ...]
    monitor: MonitorHealth
    cpu_model: str | None
    ranks_left_out: int = 0


def snapshot(window: Window, context: Context, taken: str, window_s: float, lens: Lens | None = None) -> Snapshot:
    """Describe the window. taken: RFC 3339 wall time; window_s: s that it spans; lens: what a screen looks at."""
    counted = {pid: statistics(rank.steps, rank.batch) for pid, rank in window.ranks.items()}
    by_rank = [_distribution(window.ranks[info.pid], info, counted[info.pid]) for info in current(context.ranks)]
    slowest = _slowest(by_rank)
    slow = window.ranks[slowest.pid] if slowest is not None else None
    looked_at = slow if lens is None or lens.pid is None else window.ranks.get(lens.pid)
    shown = [info for info in context.ranks if lens is None or window.ranks[info.pid] is looked_at]
    found = [layers(window.ranks[info.pid], info.rank, peaks_of(window, window.ranks[info.pid])) for info in shown]
    stacks = [stack for info in context.ranks for stack in _stacks(window, info)]
    return Snapshot(
        version=__version__,
        taken=taken,
        window_s=window_s,
        host=_host(window, context),
        devices=tuple(_device(readings) for readings in window.devices_in_order()),
        job=Job(
            id=context.job_id,
            command=context.command,
            mode=_mode(window, context),
            world_size=context.world_size,
            ranks=tuple(_rank(window.ranks[info.pid], info) for info in context.ranks),
            ranks_left_out=context.ranks_left_out,
        ),
        steps=_steps(window, counted, by_rank, slow),
        layers=found[0][0] if len(found) == 1 else tuple(layer for rows, _ in found for layer in rows),
        layers_left_out=sum(left for _, left in found) + _not_looked_at(window, context, shown),
        memory=_memory(window, slow),
        stacks=tuple(stacks[:_STACKS]),
        stacks_left_out=max(len(stacks) - _STACKS, 0),
        facts=dict(slow.facts) if slow is not None else {},
        findings=(),
        abstained=(),
        proposals=(),
        journal=(),
        history=history(window, slow, looked_at, lens.layer) if lens is not None else None,
        health=Health(collectors=context.collectors, probe=_probe_health(window), monitor=context.monitor),
    )


def _not_looked_at(window: Window, context: Context, shown: Sequence[RankInfo]) -> int:
    return sum(len(window.ranks[info.pid].tree.modules) for info in context.ranks if info not in shown)


def current(ranks: Sequence[RankInfo]) -> list[RankInfo]:
    """Those whose steps make up the job's: the attached ones; when none is any more, those that were."""
    attached = [info for info in ranks if info.state == "attached"]
    return attached or [info for info in ranks if info.state == "lost" and info.attach and info.stage != "replaced"]


def _slowest(by_rank: Sequence[Distribution]) -> Distribution | None:
    """The rank that the others wait for: the largest mean. Of those as slow as it within the noise the first, so that what
    is told of it does not change hands every second; the first of all when none has steps yet.
    """
    most = max((rank.mean_s or 0.0 for rank in by_rank), default=0.0)
    return next((rank for rank in by_rank if (rank.mean_s or 0.0) >= (1 - _AS_SLOW) * most), None)


def _distribution(window: RankWindow, info: RankInfo, steps: StepStatistics) -> Distribution:
    found, step_s, _ = _phases(window, False)
    if window.on_cuda:
        found = None
    return Distribution(
        rank=info.rank,
        pid=info.pid,
        count=steps.count + window.older,
        mean_s=steps.mean_s,
        median_s=steps.median_s,
        p95_s=steps.p95_s,
        samples_per_s=steps.samples_per_s,
        sampled=len(window.armed),
        sampled_mean_s=step_s,
        phases_s=found,
    )


def _phases(window: RankWindow, communicates: bool) -> tuple[Phases | None, float | None, dict[str, str]]:
    if window.health.get("compiled") and not window.armed:
        return phases_of_compiled(list(window.steps), communicates)
    return phases(list(window.armed), communicates)


def _steps(
    window: Window, counted: Mapping[int, StepStatistics], by_rank: Sequence[Distribution], slow: RankWindow | None
) -> Steps:
    slow_steps = counted[slow.pid] if slow is not None else None
    communicates = len(window.ranks) > 1 or bool(slow is not None and slow.facts.get("distributed"))
    found, step_s, reasons = _phases(slow, communicates) if slow is not None else (None, None, {})
    on_host = None
    if slow is not None and slow.on_cuda:
        on_host, found = found, None
        reasons = dict.fromkeys(Phases.__struct_fields__, _HOST_ONLY)
    rates = [rank.samples_per_s for rank in by_rank if rank.samples_per_s is not None]
    known_tokens = [rank.tokens_per_s for rank in counted.values() if rank.tokens_per_s is not None]
    return Steps(
        pid=slow.pid if slow is not None else None,
        count=slow_steps.count + slow.older if slow_steps and slow is not None else None,
        total=slow.total if slow is not None else None,
        mean_s=slow_steps.mean_s if slow_steps else None,
        median_s=slow_steps.median_s if slow_steps else None,
        p95_s=slow_steps.p95_s if slow_steps else None,
        samples_per_s=sum(rates) if rates else None,
        tokens_per_s=sum(known_tokens) if known_tokens else None,
        batch_size=slow_steps.batch_size if slow_steps else None,
        micro_batch_size=slow.batch.micro if slow is not None else None,
        micro_steps=slow_steps.micro_steps if slow_steps else None,
        loss=slow.loss if slow is not None else None,
        loss_finite=slow.loss_finite if slow is not None else None,
        reasons=slow_steps.reasons if slow_steps else {},
        compiled=bool(slow is not None and slow.health.get("compiled")),
        excluded=slow_steps.excluded if slow_steps else {},
        sampled=len(slow.armed) if slow is not None else 0,
        sampled_mean_s=step_s,
        phases_s=found,
        host_phases_s=on_host,
        phase_reasons=reasons,
        overlapped_communication_s=None,
        began=slow.steps[0].t_end - slow.steps[0].step_s if slow is not None and slow.steps else None,
        ended=slow.steps[-1].t_end if slow is not None and slow.steps else None,
        by_rank=tuple(by_rank),
    )


def _mode(window: Window, context: Context) -> Any:
    attached = [window.ranks[info.pid] for info in context.ranks if info.state != "outside"]
    if not attached:
        return None
    if not any(rank.steps for rank in attached):
        return "idle"
    trains = any(
        rank.training or rank.facts.get("optimizers") or any(row.micro_steps for row in rank.steps) for rank in attached
    )
    return "training" if trains else "inference"


def _rank(window: RankWindow, info: RankInfo) -> Rank:
    own = window.processes.own
    latest = own[-1] if own else None
    workers = [sample for readings in window.processes.workers.values() for sample in readings]
    devices = window.facts.get("devices") or ()
    return Rank(
        rank=info.rank,
        local_rank=info.local_rank,
        pid=info.pid,
        python=window.hello.get("python"),
        torch=window.hello.get("torch"),
        device=",".join(devices) or None,
        state=info.state,  # type: ignore[arg-type]
        reason=info.reason,
        attach=info.attach,
        stage=info.stage,
        cpu_share=_mean([sample.cpu_share for sample in own]),
        workers=len(window.processes.alive) if window.processes.last_t is not None else None,
        workers_cpu_share=_per_reading([(sample.t, sample.cpu_share) for sample in workers]),
        rss_bytes=latest.rss_bytes if latest else None,
        threads=latest.threads if latest else None,
        read_bytes_per_s=_per_reading([(sample.t, sample.read_bytes_per_s) for sample in window.processes]),
        involuntary_switches_per_s=_mean([sample.involuntary_switches_per_s for sample in own]),
        process_state=latest.state if latest else None,
        cgroup_memory_bytes=latest.cgroup_memory_bytes if latest else None,
        cgroup_memory_limit_bytes=latest.cgroup_memory_limit_bytes if latest else None,
    )


def _host(window: Window, context: Context) -> Host:
    latest = window.host[-1] if window.host else None
    readings = list(window.host)
    return Host(
        hostname=platform.node(),
        cpus=latest.cpus if latest else os.cpu_count(),
        cpu_model=context.cpu_model,
        memory_bytes=latest.memory_bytes if latest else None,
        memory_available_bytes=latest.memory_available_bytes if latest else None,
        swap_used_bytes=latest.swap_used_bytes if latest else None,
        cpu_util=_mean([sample.cpu_util for sample in readings]),
        load1=latest.load1 if latest else None,
        cpu_pressure=latest.cpu_pressure if latest else None,
        memory_pressure=latest.memory_pressure if latest else None,
        io_pressure=latest.io_pressure if latest else None,
        disk_read_bytes_per_s=_mean([sample.disk_read_bytes_per_s for sample in readings]),
        disk_write_bytes_per_s=_mean([sample.disk_write_bytes_per_s for sample in readings]),
        net_receive_bytes_per_s=_mean([sample.net_receive_bytes_per_s for sample in readings]),
        net_send_bytes_per_s=_mean([sample.net_send_bytes_per_s for sample in readings]),
        machine=_machine(window.machine) if window.machine is not None else None,
    )


def _machine(seen: MachineSample) -> Machine | None:
    """None where nothing was measured."""
    core, cores = seen.core, seen.usable_cores
    if core is None:
        return None

    def of_all(rate: float | None) -> float | None:
        return rate * cores if rate is not None and cores is not None else None

    return Machine(
        usable_cores=cores,
        usable_cores_because=seen.usable_cores_because,
        float32_flops_per_s=of_all(core.float32_flops_per_s),
        bfloat16_flops_per_s=of_all(core.bfloat16_flops_per_s),
        copy_bytes_per_s=of_all(core.copy_bytes_per_s),
        core_float32_flops_per_s=core.float32_flops_per_s,
        core_bfloat16_flops_per_s=core.bfloat16_flops_per_s,
        core_copy_bytes_per_s=core.copy_bytes_per_s,
        method=core.method,
        measured=core.measured,
        torch=core.torch,
        missing=dict(core.missing),
    )


def _device(readings: Sequence[GpuSample]) -> Device:
    latest = readings[-1]
    energies = [sample.energy_j for sample in readings if sample.energy_j is not None]
    reasons = [sample.throttle_reasons for sample in readings if sample.throttle_reasons is not None]
    peaks = gpu_peaks.published(latest.name, latest.mig_index is not None)
    unknown = {} if isinstance(peaks, gpu_peaks.Peaks) else dict.fromkeys(gpu_peaks.FIELDS, peaks)
    return Device(
        index=latest.index,
        mig_index=latest.mig_index,
        uuid=latest.uuid,
        name=latest.name,
        util=_mean([sample.util for sample in readings]),
        memory_util=_mean([sample.memory_util for sample in readings]),
        memory_used_bytes=latest.memory_used_bytes,
        memory_total_bytes=latest.memory_total_bytes,
        power_w=_mean([sample.power_w for sample in readings]),
        power_limit_w=latest.power_limit_w,
        energy_j=energies[-1] - energies[0] if len(energies) > 1 else None,
        temperature_c=latest.temperature_c,
        sm_clock_mhz=latest.sm_clock_mhz,
        sm_clock_max_mhz=latest.sm_clock_max_mhz,
        memory_clock_mhz=latest.memory_clock_mhz,
        throttle_reasons=tuple(sorted({r for found in reasons for r in found})) if reasons else None,
        processes=None
        if latest.processes is None
        else tuple(DeviceProcess(pid=p.pid, memory_bytes=p.memory_bytes) for p in latest.processes),
        peak_flops_per_s=dict(peaks.flops_per_s) if isinstance(peaks, gpu_peaks.Peaks) else None,
        peak_memory_bytes_per_s=peaks.memory_bytes_per_s if isinstance(peaks, gpu_peaks.Peaks) else None,
        missing={**latest.missing, **unknown},
    )


def _memory(window: Window, slow: RankWindow | None) -> Memory:
    reasons = {
        "activations_bytes": "on CPU what is kept for backward can only be measured by consent",
        "reserved_bytes": "there is no caching allocator on CPU",
    }
    made_of = slow.memory if slow is not None else {}
    own = slow.processes.own if slow is not None else ()
    used = own[-1].rss_bytes if own else None
    parts = [made_of.get(name) for name in ("parameters_bytes", "gradients_bytes", "optimizer_bytes")]
    if not made_of:
        reasons |= {
            name: "no optimizer has stepped since attach"
            for name in ("parameters_bytes", "gradients_bytes", "optimizer_bytes")
        }
    known = sum(part for part in parts if part is not None)
    readings = [sample.rss_bytes for sample in own if sample.rss_bytes is not None]
    return Memory(
        parameters_bytes=parts[0],
        gradients_bytes=parts[1],
        optimizer_bytes=parts[2],
        activations_bytes=None,
        other_bytes=max(used - known, 0) if used is not None and made_of else None,
        used_bytes=used,
        reserved_bytes=None,
        peak_bytes=max(readings, default=None),
        limit_bytes=_limit(window, own),
        reasons=reasons,
    )


def _limit(window: Window, own: Sequence[ProcessSample]) -> int | None:
    limits = [window.host[-1].memory_bytes if window.host else None]
    limits.append(own[-1].cgroup_memory_limit_bytes if own else None)
    return min((limit for limit in limits if limit is not None), default=None)


def _stacks(window: Window, info: RankInfo) -> list[Stack]:
    return [
        Stack(
            rank=info.rank,
            pid=info.pid,
            thread=sample.thread,
            main=sample.main,
            active=sample.active,
            frames=tuple(Frame(function=f.function, file=f.file, line=f.line) for f in sample.frames),
        )
        for sample in window.stacks.get(info.pid, ())
    ]


def _probe_health(window: Window) -> ProbeHealth | None:
    told = [rank.health for rank in window.ranks.values() if rank.health]
    if not told:
        return None
    costly = max(told, key=lambda health: health.get("cost_share") or 0.0)
    left = [item for rank in window.ranks.values() for item in (rank.bye or rank.health).get("left_behind", ())]
    return ProbeHealth(
        cost_share=costly.get("cost_share"),
        sampled_steps=sum(health.get("sampled_steps") or 0 for health in told),
        every=costly.get("every"),
        dropped=sum(health["dropped"] + (health.get("step_rows_dropped") or 0) for health in told),
        errors=sum(health["errors"] for health in told),
        left_behind=tuple(left),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _per_reading(values: Sequence[tuple[float, float | None]]) -> float | None:
    """Mean over readings of the sum of what was read at the same time; None when nothing was."""
    sums: dict[float, float] = {}
    for t, value in values:
        if value is not None:
            sums[t] = sums.get(t, 0.0) + value
    return fmean(sums.values()) if sums else None
