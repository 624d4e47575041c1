"""From the window to what the rules judge. Pure: the same window makes the same `Seen`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import msgspec

from torchtop import gpu_peaks
from torchtop.layer_report import layers, peaks_of
from torchtop.record import GpuSample, Neighbour, Neighbours, StackBurst, StackFrame, StepRow
from torchtop.seen import PAUSES_KEPT, DeviceSeen, Facts, Phase, RankSeen, Save, Seen, StackCount, Stacks
from torchtop.snapshot import Frame
from torchtop.step_statistics import batches, phases_of_compiled, plain_rows
from torchtop.timeline import ArmedStep
from torchtop.window import RankWindow, Window

_STEPS = 4_000  # rows of the slowest rank that are judged: of a 5 ms step 20 s, and 1 ms to go through them
_STEPS_OF_OTHERS = 500  # of the other ranks, which are only compared with it
_READINGS = 600  # of each source, at one a second
_READINGS_OF_OTHERS = 200  # of the processes of the other ranks
_READINGS_OF_WORKER = 60  # rules ask what workers did lately
_BURSTS_S = 60.0  # s after which a burst of stacks says nothing of now
_BUSY_CORES = 0.05  # a neighbour that uses less over all looks takes nothing from the job

_T = TypeVar("_T")


def freeze(window: Window, ranks: Sequence[tuple[int, int | None]], window_s: float, now: float, **job: Any) -> Seen:
    """ranks: (pid, global rank) of those that are attached; job: world_size, mode, slowest_pid, devices_reason."""
    known = [pid for pid, _ in ranks]
    slowest = known.index(job["slowest_pid"]) if job.get("slowest_pid") in known else 0
    seen = tuple(
        _rank(window, window.ranks[pid], rank, now, place == slowest) for place, (pid, rank) in enumerate(ranks)
    )
    return Seen(
        window_s=window_s,
        now=now,
        world_size=job.get("world_size"),
        ranks=seen,
        slowest=slowest,
        mode=job.get("mode"),
        host=_latest(window.host),
        neighbours=_neighbours(window.neighbours),
        devices=tuple(_device(_latest(readings), [pid for pid, _ in ranks]) for readings in window.devices_in_order()),
        devices_reason=job.get("devices_reason"),
        machine=window.machine if window.machine is not None and window.machine.core is not None else None,
        usable_cores=window.machine.usable_cores if window.machine is not None else None,
    )


def facts(told: Mapping[str, Any]) -> Facts:
    """The settings that a probe told. One that makes no sense is left out, as if it had not been told."""
    try:
        return msgspec.convert(told, Facts)
    except msgspec.ValidationError:
        known = Facts()
        for name in Facts.__struct_fields__:
            if name in told:
                try:
                    one = msgspec.convert({name: told[name]}, Facts)
                except msgspec.ValidationError:
                    continue
                known = msgspec.structs.replace(known, **{name: getattr(one, name)})
        return known


def _rank(window: Window, rank: RankWindow, number: int | None, now: float, slowest: bool) -> RankSeen:
    steps = _newest(rank.steps, _STEPS if slowest else _STEPS_OF_OTHERS)
    plain, excluded = plain_rows(steps)
    batch_size, micro_steps = batches(steps, rank.batch)
    rows, left_out = layers(rank, number, peaks_of(window, rank)) if slowest else ((), 0)
    saves = _newest(rank.pauses.saves, PAUSES_KEPT)
    phases, phases_are = _phases(rank, steps, saves)
    told = facts(rank.facts)
    stacks, stacks_reason = _stacks(window, rank, now)
    return RankSeen(
        # Who is spawned has its number from the process group, not from its environment.
        rank=told.distributed.rank if number is None and told.distributed is not None else number,
        pid=rank.pid,
        steps=steps,
        plain=plain,
        excluded=excluded,
        phases=phases,
        phases_are=phases_are,
        layers=rows,
        layers_left_out=left_out,
        batch_size=batch_size,
        # A model that is called several times a step may act on one row and learn from 64.
        micro_batch_size=None if rank.batch.recalled and batch_size is None else rank.batch.micro,
        micro_steps=micro_steps,
        loss=rank.loss,
        loss_finite=rank.loss_finite,
        training=rank.training,
        compiled=bool(rank.health.get("compiled")),
        facts=told,
        parameters_bytes=rank.memory.get("parameters_bytes"),
        gradients_bytes=rank.memory.get("gradients_bytes"),
        optimizer_bytes=rank.memory.get("optimizer_bytes"),
        allocator=_latest(rank.allocator),
        processes=_newest(rank.processes.own, _READINGS if slowest else _READINGS_OF_OTHERS),
        workers={pid: _newest(readings, _READINGS_OF_WORKER) for pid, readings in rank.processes.alive.items()},
        gc_pauses=_newest(rank.pauses.runs, PAUSES_KEPT),
        gc_seconds=rank.pauses.gc_seconds,
        saves=saves,
        zero_grad=rank.pauses.zero_grad,
        stacks=stacks,
        stacks_reason=stacks_reason,
        weights=rank.weights.found,
        weights_reason=rank.weights.reason,
        watched_s=now - max(window.began, rank.attached or window.began),
    )


def _phases(rank: RankWindow, steps: Sequence[StepRow], saves: Sequence[Save]) -> tuple[tuple[Phase, ...], Any]:
    if rank.health.get("compiled") and not rank.armed:
        found, step_s, _ = phases_of_compiled(list(steps), communicates=False)
        if found is None or step_s is None:
            return (), None
        told = msgspec.structs.asdict(found)
        return (Phase(step_s=step_s, **{**told, "other": told["other"] or 0.0}),), "host" if rank.on_cuda else "cpu"
    if not rank.armed:
        return (), None
    return tuple(_phase(step, saves) for step in rank.armed), "host" if rank.on_cuda else "cpu"


def _phase(step: ArmedStep, saves: Sequence[Save]) -> Phase:
    told = step.phases
    other = told["other"] or 0.0
    begin = bisect_right(saves, step.t_end - step.step_s, key=_ended)
    saving = sum(save.seconds for save in saves[begin : bisect_right(saves, step.t_end, key=_ended)])
    return Phase(
        step_s=step.step_s,
        data=told["data"],
        transfer=None,
        forward=told["forward"],
        backward=told["backward"],
        optimizer=told["optimizer"],
        communication=None,
        other=other,
        saving=min(saving, other),
    )


def _ended(save: Save) -> float:
    return save.t


def _neighbours(looks: Sequence[Neighbours]) -> tuple[Neighbour, ...] | None:
    """Mean over the looks; who was not among the busy ones in a look used nothing in it. None before the first."""
    if not looks:
        return None
    latest: dict[int, Neighbour] = {}
    cores: dict[int, float] = {}
    for look in looks:
        for one in look.processes:
            latest[one.pid] = one
            cores[one.pid] = cores.get(one.pid, 0.0) + one.cores / len(looks)
    found = [msgspec.structs.replace(one, cores=cores[pid]) for pid, one in latest.items()]
    return tuple(sorted((one for one in found if one.cores >= _BUSY_CORES), key=lambda one: (-one.cores, one.pid)))


def _stacks(window: Window, rank: RankWindow, now: float) -> tuple[tuple[Stacks, ...], str | None]:
    """(the bursts of each process put together, the rank's own first; why they failed)."""
    ours = {rank.pid, *rank.processes.workers}
    taken = [burst for burst in window.bursts if burst.pid in ours and now - burst.t <= _BURSTS_S]
    bursts: dict[int, list[StackBurst]] = {}
    for burst in taken:
        if burst.tallies:
            bursts.setdefault(burst.pid, []).append(burst)
    found = tuple(_together(pid, bursts[pid]) for pid in sorted(bursts, key=lambda pid: (pid != rank.pid, pid)))
    return found, taken[-1].reason if taken and not found else None


def _together(pid: int, bursts: Sequence[StackBurst]) -> Stacks:
    counted: dict[tuple[StackFrame, ...], int] = {}
    for burst in bursts:
        for tally in burst.tallies:
            counted[tally.frames] = counted.get(tally.frames, 0) + tally.count
    most = sorted(counted.items(), key=lambda one: -one[1])
    return Stacks(
        pid=pid,
        samples=sum(counted.values()),
        rate_hz=bursts[-1].rate_hz,
        counts=tuple(StackCount(frames=tuple(map(_frame, frames)), count=count) for frames, count in most),
    )


def _frame(frame: StackFrame) -> Frame:
    return Frame(function=frame.function, file=frame.file, line=frame.line)


def _device(readings: tuple[GpuSample, ...], pids: Sequence[int]) -> DeviceSeen:
    latest = readings[-1]
    peaks = gpu_peaks.published(latest.name, latest.mig_index is not None)
    known = peaks if isinstance(peaks, gpu_peaks.Peaks) else None
    return DeviceSeen(
        readings=readings,
        peak_flops_per_s=dict(known.flops_per_s) if known is not None else None,
        peak_memory_bytes_per_s=known.memory_bytes_per_s if known is not None else None,
        job_pids=tuple(process.pid for process in latest.processes or () if process.pid in pids),
    )


def _latest(readings: Sequence[_T]) -> tuple[_T, ...]:
    return _newest(readings, _READINGS)


def _newest(rows: Sequence[_T], count: int) -> tuple[_T, ...]:
    # From the end: a deque of 20,000 has no short way to the middle.
    return tuple(islice(reversed(rows), count))[::-1]
