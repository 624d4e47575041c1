"""The curves of a screen, of windows made by hand."""

from __future__ import annotations

import pytest

from torchtop.history import POINTS, history
from torchtop.module_times import ModuleTimes, PackedTimes
from torchtop.probe import wire
from torchtop.record import GpuSample, HostSample, ProbeMessage, ProcessSample, StepRow
from torchtop.timeline import ArmedStep
from torchtop.window import RankWindow, Window

Told = tuple[float, float | None]  # self forward, self backward, s


def window() -> Window:
    """One rank, 1, of which nothing is known yet."""
    return Window([1], 0.0)


def step(t_end: float, step_s: float = 0.5, flags: int = 0) -> StepRow:
    return StepRow(t_end, step_s, flags, 1, None, None, None, None)


def process(t: float, pid: int, cores: float | None, rss: int | None = None, rank: int = 1) -> ProcessSample:
    return ProcessSample(t, pid, rank, "R", cores, rss, 1, None, None, None, None, None)


def host(t: float, util: float | None) -> HostSample:
    return HostSample(t, 2, util, *[None] * 11)


def gpu(t: float, index: int, util: float | None, mig: int | None = None) -> GpuSample:
    return GpuSample(
        t, index, mig, None, None, util, None, 7, None, 200.0, None, None, None, None, None, None, None, None
    )


def armed(**modules: Told) -> ArmedStep:
    """An armed step in which modules m0, m1 and so on took so long."""
    found = {}
    for name, (forward_s, backward_s) in modules.items():
        times = ModuleTimes()
        times.calls, times.self_forward_s, times.self_backward_s = 1, forward_s, backward_s
        found[int(name[1:])] = times
    return ArmedStep(1.0, 1.0, {}, PackedTimes(found))


def with_modules(rank: RankWindow, *names: str) -> RankWindow:
    """Describe modules 0, 1, ... of root 0, whose name is ""."""
    rows = [[index, 0, name, "M", 1, 4, None, False] for index, name in enumerate(names)]
    body = {"root": 0, "class": "M", "parameters": len(names), "rows": rows}
    rank.take(ProbeMessage(0.0, rank.pid, wire.MODULES, body))
    return rank


def test_nothing_seen_is_empty() -> None:
    found = history(window(), None, None, None)
    assert (found.step_s, found.cpu_util, found.cores, found.rss_bytes, found.devices) == ((),) * 5
    assert found.layer is None


def test_the_latest_steps_of_all_kinds_oldest_first() -> None:
    seen = window()
    seen.ranks[1].steps.extend(step(float(n), n / 1000, wire.ARMED * (n % 2)) for n in range(POINTS + 5))
    found = history(seen, seen.ranks[1], None, None)
    assert found.step_s == tuple(n / 1000 for n in range(5, POINTS + 5))


def test_cores_of_one_reading_are_those_of_all_ranks_and_workers() -> None:
    seen = Window([1, 2], 0.0)
    for sample in (
        process(1.0, 1, None),
        process(1.0, 2, None, rank=2),
        process(2.0, 1, 0.5),
        process(2.0, 11, 0.25),
        process(2.0, 2, 1.0, rank=2),
        process(3.0, 1, 0.5),
        process(3.0, 2, None, rank=2),
    ):
        seen.take(sample)
    assert history(seen, None, None, None).cores == (None, 1.75, 0.5)


def test_memory_is_that_of_the_rank_without_its_workers() -> None:
    seen = window()
    for sample in (process(1.0, 1, 1.0, 100), process(1.0, 11, 1.0, 7), process(2.0, 1, 1.0, None)):
        seen.take(sample)
    assert history(seen, seen.ranks[1], None, None).rss_bytes == (100, None)


def test_readings_that_failed_are_gaps_and_devices_stand_in_order() -> None:
    seen = window()
    for sample in (
        host(1.0, None),
        host(2.0, 0.5),
        gpu(1.0, 1, 0.2),
        gpu(1.0, 0, None, 2),
        gpu(1.0, 0, 0.9),
        gpu(2.0, 1, None),
    ):
        seen.take(sample)
    found = history(seen, None, None, None)
    assert found.cpu_util == (None, 0.5)
    assert [(device.index, device.mig_index) for device in found.devices] == [(0, None), (0, 2), (1, None)]
    assert [device.util for device in found.devices] == [(0.9,), (None,), (0.2, None)]
    assert (found.devices[2].memory_used_bytes, found.devices[2].power_w) == ((7, 7), (200.0, 200.0))


def test_a_layer_in_each_armed_step() -> None:
    rank = with_modules(RankWindow(1), "", "fc")
    rank.armed.extend((armed(m0=(1.0, 2.0), m1=(0.25, None)), armed(m0=(1.0, 2.0)), armed(m1=(0.5, 0.75))))
    found = history(window(), None, rank, "fc").layer
    assert found is not None
    assert (found.pid, found.name) == (1, "fc")
    assert (found.self_forward_s, found.self_backward_s) == ((0.25, None, 0.5), (None, None, 0.75))


def test_modules_of_one_name_are_one_layer() -> None:
    """A loss that is made anew in every step has a root of its own each time, and no parameters."""
    rank = with_modules(RankWindow(1), "")
    for index in (1, 2):
        row = [index, index, "", "MSELoss", 0, 0, None, True]
        body = {"root": index, "class": "MSELoss", "parameters": 0, "rows": [row]}
        rank.take(ProbeMessage(0.0, 1, wire.MODULES, body))
    rank.armed.extend((armed(m0=(1.0, 1.0), m1=(0.1, 0.2)), armed(m0=(1.0, 1.0), m2=(0.3, 0.4))))
    found = history(window(), None, rank, "MSELoss:").layer
    assert found is not None
    assert (found.self_forward_s, found.self_backward_s) == ((0.1, 0.3), (0.2, 0.4))


def test_only_recomputed_is_not_called() -> None:
    rank = with_modules(RankWindow(1), "", "fc")
    times = ModuleTimes()
    times.recompute_s = times.self_backward_s = 0.5
    rank.armed.append(ArmedStep(1.0, 1.0, {}, PackedTimes({1: times})))
    found = history(window(), None, rank, "fc").layer
    assert found is not None
    assert (found.self_forward_s, found.self_backward_s) == ((None,), (0.5,))


@pytest.mark.parametrize("layer", [None, "gone"])
def test_no_layer_is_none(layer: str | None) -> None:
    rank = with_modules(RankWindow(1), "")
    rank.armed.append(armed(m0=(1.0, 1.0)))
    assert history(window(), None, rank, layer).layer is None


def test_on_cuda_no_host_time_is_sold_as_a_layers() -> None:
    rank = with_modules(RankWindow(1), "")
    rank.armed.append(armed(m0=(1.0, 1.0)))
    rank.facts = {"devices": ["cuda"]}
    found = history(window(), None, rank, "").layer
    assert found is not None
    assert (found.self_forward_s, found.self_backward_s) == ((None,), (None,))
