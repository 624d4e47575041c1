"""The curves of a screen, from the window's buffers. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TypeVar

from torchtop.layer_report import called_modules
from torchtop.record import GpuSample
from torchtop.snapshot import DeviceHistory, History, LayerHistory
from torchtop.window import RankWindow, Window

POINTS = 240  # of a curve: one in each column of a wide screen

_T = TypeVar("_T")


def history(window: Window, slow: RankWindow | None, looked_at: RankWindow | None, layer: str | None) -> History:
    """slow: the slowest rank, None before there is one; looked_at, layer: the rank and its layer that is looked at."""
    own = slow.processes.own if slow is not None else ()
    return History(
        step_s=tuple(row.step_s for row in _latest(slow.steps)) if slow is not None else (),
        cpu_util=tuple(sample.cpu_util for sample in _latest(window.host)),
        cores=_cores(window.ranks.values()),
        rss_bytes=tuple(sample.rss_bytes for sample in _latest(own)),
        devices=tuple(_device(_latest(readings)) for readings in window.devices_in_order()),
        layer=_layer(looked_at, layer) if looked_at is not None and layer is not None else None,
    )


def _latest(readings: Sequence[_T]) -> list[_T]:
    return list(islice(readings, max(len(readings) - POINTS, 0), None))


def _cores(ranks: Iterable[RankWindow]) -> tuple[float | None, ...]:
    """Cores used by all processes of the job, by the time of the reading: one reading is of all of them."""
    sums: dict[float, float | None] = {}
    for rank in ranks:
        for sample in rank.processes:
            before = sums.get(sample.t)
            sums[sample.t] = before if sample.cpu_share is None else (before or 0.0) + sample.cpu_share
    return tuple(sums[t] for t in sorted(sums)[-POINTS:])


def _device(readings: Sequence[GpuSample]) -> DeviceHistory:
    return DeviceHistory(
        index=readings[-1].index,
        mig_index=readings[-1].mig_index,
        util=tuple(sample.util for sample in readings),
        memory_used_bytes=tuple(sample.memory_used_bytes for sample in readings),
        power_w=tuple(sample.power_w for sample in readings),
    )


def _layer(window: RankWindow, name: str) -> LayerHistory | None:
    """None where the window has no module of that name."""
    indices = called_modules(window).get(name)
    if indices is None:
        return None
    found = [[times for index in indices if (times := step.modules.get(index))] for step in window.armed]
    if window.on_cuda:
        found = [[] for _ in found]  # when the host queued its kernels is not how long a layer took
    return LayerHistory(
        pid=window.pid,
        name=name,
        self_forward_s=tuple(_sum([times.self_forward_s for times in step if times.calls]) for step in found),
        self_backward_s=tuple(_sum([times.self_backward_s for times in step]) for step in found),
    )


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
