"""From the window to what the rules judge. Pure: the same window makes the same `Seen`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import msgspec

from torchtop import gpu_peaks
from torchtop.layer_report import layers
from torchtop.record import GpuSample, ProcessSample, StepRow
from torchtop.seen import DeviceSeen, Facts, Phase, RankSeen, Seen
from torchtop.step_statistics import phases_of_compiled, plain_rows, statistics
from torchtop.timeline import ArmedStep
from torchtop.window import RankWindow, Window

_STEPS = 4_000  # rows of a rank that are judged: of a 5 ms step 20 s, and 1 ms to go through them
_READINGS = 600  # of each source, at one a second

_T = TypeVar("_T")


def freeze(window: Window, ranks: Sequence[tuple[int, int | None]], window_s: float, now: float, **job: Any) -> Seen:
    """ranks: (pid, global rank) of those that are attached; job: world_size, mode, slowest_pid, devices_reason."""
    seen = tuple(_rank(window, window.ranks[pid], rank, now) for pid, rank in ranks)
    slowest_pid = job.get("slowest_pid")
    return Seen(
        window_s=window_s,
        now=now,
        world_size=job.get("world_size"),
        ranks=seen,
        slowest=next((place for place, rank in enumerate(seen) if rank.pid == slowest_pid), 0),
        mode=job.get("mode"),
        host=_latest(window.host),
        neighbours=window.neighbours,
        devices=tuple(_device(_latest(readings), [pid for pid, _ in ranks]) for readings in window.devices_in_order()),
        devices_reason=job.get("devices_reason"),
        machine=window.machine,
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


def _rank(window: Window, rank: RankWindow, number: int | None, now: float) -> RankSeen:
    steps = _newest(rank.steps, _STEPS)
    plain, excluded = plain_rows(steps)
    counted = statistics(steps, rank.batch)
    rows, left_out = layers(rank, number)
    own, workers = _processes(rank)
    phases, phases_are = _phases(rank, steps)
    return RankSeen(
        rank=number,
        pid=rank.pid,
        steps=steps,
        plain=plain,
        excluded=excluded,
        phases=phases,
        phases_are=phases_are,
        layers=rows,
        layers_left_out=left_out,
        batch_size=counted.batch_size,
        micro_batch_size=rank.batch.micro,
        micro_steps=counted.micro_steps,
        loss=rank.loss,
        loss_finite=rank.loss_finite,
        training=rank.training,
        compiled=bool(rank.health.get("compiled")),
        facts=facts(rank.facts),
        parameters_bytes=rank.memory.get("parameters_bytes"),
        gradients_bytes=rank.memory.get("gradients_bytes"),
        optimizer_bytes=rank.memory.get("optimizer_bytes"),
        allocator=(),
        processes=own,
        workers=workers,
        gc_pauses=(),
        gc_seconds=None,
        saves=(),
        zero_grad=None,
        stacks=(),
        stacks_reason=None,
        weights=None,
        watched_s=now - window.began,
    )


def _phases(rank: RankWindow, steps: Sequence[StepRow]) -> tuple[tuple[Phase, ...], Any]:
    if rank.health.get("compiled") and not rank.armed:
        found, step_s, _ = phases_of_compiled(list(steps), communicates=False)
        if found is None or step_s is None:
            return (), None
        told = msgspec.structs.asdict(found)
        return (Phase(step_s=step_s, **{**told, "other": told["other"] or 0.0}),), "host" if rank.on_cuda else "cpu"
    if not rank.armed:
        return (), None
    return tuple(_phase(step) for step in rank.armed), "host" if rank.on_cuda else "cpu"


def _phase(step: ArmedStep) -> Phase:
    told = step.phases
    return Phase(
        step_s=step.step_s,
        data=told["data"],
        transfer=None,
        forward=told["forward"],
        backward=told["backward"],
        optimizer=told["optimizer"],
        communication=None,
        other=told["other"] or 0.0,
    )


def _processes(rank: RankWindow) -> tuple[tuple[ProcessSample, ...], dict[int, tuple[ProcessSample, ...]]]:
    """(readings of the rank, readings of each worker that was there at the last look)."""
    own: list[ProcessSample] = []
    workers: dict[int, list[ProcessSample]] = {}
    for sample in _newest(rank.processes, _READINGS * 16):
        (own if sample.pid == rank.pid else workers.setdefault(sample.pid, [])).append(sample)
    last_t = rank.processes[-1].t if rank.processes else 0.0
    # All processes of one look are read within milliseconds; a look is a second.
    alive = {pid: tuple(rows) for pid, rows in workers.items() if last_t - rows[-1].t < 0.5}
    return tuple(own[-_READINGS:]), alive


def _device(readings: tuple[GpuSample, ...], pids: Sequence[int]) -> DeviceSeen:
    latest = readings[-1]
    peaks = gpu_peaks.published(latest.name, latest.mig_index is not None)
    known = isinstance(peaks, gpu_peaks.Peaks)
    return DeviceSeen(
        readings=readings,
        peak_flops_per_s=dict(peaks.flops_per_s) if isinstance(peaks, gpu_peaks.Peaks) else None,
        peak_memory_bytes_per_s=peaks.memory_bytes_per_s if isinstance(peaks, gpu_peaks.Peaks) and known else None,
        job_pids=tuple(process.pid for process in latest.processes or () if process.pid in pids),
    )


def _latest(readings: Sequence[_T]) -> tuple[_T, ...]:
    return _newest(readings, _READINGS)


def _newest(rows: Sequence[_T], count: int) -> tuple[_T, ...]:
    return tuple(islice(rows, max(len(rows) - count, 0), None))
