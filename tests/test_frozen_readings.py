"""What freezing makes of stacks, neighbours and the machine."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests import many_layers
from torchtop.frozen import freeze
from torchtop.record import (
    CoreRates,
    MachineSample,
    Neighbour,
    Neighbours,
    ProbeMessage,
    ProcessSample,
    StackBurst,
    StackFrame,
    StackTally,
    StepRow,
)
from torchtop.seen import RankSeen, Seen
from torchtop.window import Batch, Window

PID = 10
WORKER = 11
NOW = 100.0


def window() -> Window:
    made = Window((PID,), 0.0)
    for pid in (PID, WORKER):
        made.take(process(pid))
    return made


def process(pid: int) -> ProcessSample:
    unread: dict[str, Any] = dict.fromkeys(ProcessSample.__struct_fields__[4:12])
    return ProcessSample(t=NOW, pid=pid, rank_pid=PID, state="R", **unread)


def frozen(made: Window) -> Seen:
    return freeze(made, [(PID, 0)], 20.0, NOW)


def rank(made: Window) -> RankSeen:
    (only,) = frozen(made).ranks
    return only


def burst(t: float, pid: int = PID, reason: str | None = None, **counts: int) -> StackBurst:
    tallies = tuple(StackTally(frames=(StackFrame(name, "/a.py", 1),), count=count) for name, count in counts.items())
    return StackBurst(t=t, pid=pid, seconds=2.0, rate_hz=20.0, tallies=tallies, reason=reason)


def look(t: float, **cores: float) -> Neighbours:
    return Neighbours(t, tuple(Neighbour(t, int(name[1:]), name, used) for name, used in cores.items()))


def test_bursts_of_one_thread_are_put_together_and_the_rank_comes_first() -> None:
    made = window()
    for one in (burst(90, WORKER, load=7), burst(91, f=3, g=5), burst(95, f=4), burst(96, 77, other=9)):
        made.take(one)
    own, worker = rank(made).stacks
    assert (own.pid, own.samples, own.rate_hz) == (PID, 12, 20.0)
    assert [(one.frames[0].function, one.count) for one in own.counts] == [("f", 7), ("g", 5)]
    assert (worker.pid, worker.samples) == (WORKER, 7)
    assert rank(made).stacks_reason is None


def test_old_bursts_say_nothing_of_now() -> None:
    made = window()
    made.take(burst(30, f=3))
    assert (rank(made).stacks, rank(made).stacks_reason) == ((), None)


def test_why_a_burst_failed_is_kept_until_one_succeeds() -> None:
    made = window()
    assert rank(made).stacks_reason is None
    made.take(burst(90, reason="py-spy may not read process 10"))
    assert rank(made).stacks_reason == "py-spy may not read process 10"
    made.take(burst(91, f=1))
    assert rank(made).stacks_reason is None


def test_neighbours_are_means_over_the_looks() -> None:
    made = window()
    assert frozen(made).neighbours is None
    made.take(look(80))
    assert frozen(made).neighbours == ()
    made.take(look(85, p5=1.0, p6=0.12))
    made.take(look(90, p5=0.5, p7=3.0))
    assert [(one.pid, round(one.cores, 3), one.t) for one in frozen(made).neighbours or ()] == [
        (7, 1.0, 90),
        (5, 0.5, 90),
    ]


def test_cores_are_known_without_peaks() -> None:
    made = window()
    assert frozen(made).usable_cores is None
    made.take(MachineSample(t=1.0, usable_cores=3.0, usable_cores_because="by hand", core=None))
    assert (frozen(made).usable_cores, frozen(made).machine) == (3.0, None)
    core = CoreRates(
        torch="2.13.0",
        measured="2026-01-02T03:04:05+00:00",
        method="by hand",
        float32_flops_per_s=2e11,
        bfloat16_flops_per_s=None,
        copy_bytes_per_s=1e10,
        missing={},
    )
    told = MachineSample(t=1.0, usable_cores=3.0, usable_cores_because="by hand", core=core)
    made.take(told)
    assert frozen(made).machine == told


def test_a_rank_is_watched_since_it_was_attached() -> None:
    made = window()
    assert rank(made).watched_s == NOW
    made.ranks[PID].attached = 70.0
    assert rank(made).watched_s == 30.0
    made.replace(PID)
    assert rank(made).watched_s == 30.0, "another probe takes over what the first one told"
    made.forget_before(90.0)
    assert rank(made).watched_s == 10.0


def test_readings_of_a_process_are_kept_by_themselves() -> None:
    """A worker that is gone is no worker of now; of those that live the latest are judged."""
    made = Window((PID,), 0.0)
    for t in range(1, 101):
        made.take(replace(process(PID), t=float(t)))
        for worker in (WORKER, WORKER + 1)[: 2 if t < 50 else 1]:
            made.take(replace(process(worker), t=float(t)))
    seen = rank(made)
    assert [one.t for one in seen.processes] == list(range(1, 101))
    assert {pid: rows[-1].t for pid, rows in seen.workers.items()} == {WORKER: 100.0}
    made.forget_before(60.0)
    assert set(made.ranks[PID].processes.workers) == {WORKER}
    made.forget_before(200.0)
    assert [one.t for one in made.ranks[PID].processes] == [100.0]


def test_of_many_workers_those_gone_longest_are_forgotten() -> None:
    made = Window((PID,), 0.0)
    for t in range(300):
        made.take(replace(process(WORKER), t=float(t)))
        made.take(replace(process(1000 + t), t=float(t)))
    kept = made.ranks[PID].processes
    assert len(kept.workers) == 256
    assert set(kept.alive) == {WORKER, 1299}


@pytest.mark.parametrize(("number", "found"), [(None, 3), (1, 1)])
def test_a_spawned_rank_has_its_number_from_the_process_group(number: int | None, found: int) -> None:
    made = window()
    made.ranks[PID].facts = {"distributed": {"backend": "gloo", "rank": 3, "world_size": 4}}
    assert freeze(made, [(PID, number)], 20.0, NOW).ranks[0].rank == found


def test_layers_are_those_of_the_slowest_rank_only() -> None:
    pids = (PID, PID + 1)
    made, model = Window(pids, 0.0), many_layers.model(20)
    for pid in pids:
        for body in (*many_layers.modules(model), many_layers.facts(), many_layers.armed(model, 0, NOW, 0.1)):
            made.take(ProbeMessage(t=0.0, rank_pid=pid, type=body["type"], body=body))
    seen = freeze(made, [(pid, None) for pid in pids], 20.0, NOW, slowest_pid=pids[1])
    assert [bool(one.layers) for one in seen.ranks] == [False, True]
    assert [len(one.phases) for one in seen.ranks] == [1, 1]


@pytest.mark.parametrize(
    ("recalled", "loaded", "micro"), [(False, None, 1), (True, None, None), (True, 64.0, 1)], ids=str
)
def test_of_a_model_that_acts_and_learns_samples_are_not_known(
    recalled: bool, loaded: float | None, micro: int | None
) -> None:
    """It acts with one row and learns from 64: only a loader says which are the samples."""
    made = window()
    made.ranks[PID].batch = Batch(1.0, 1, None, recalled)
    made.ranks[PID].steps.extend(StepRow(NOW - 9 + at, 1.0, 0, 1, loaded, None, 0.5, 0.1) for at in range(10))
    assert rank(made).micro_batch_size == micro
