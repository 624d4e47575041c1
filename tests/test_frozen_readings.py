"""What freezing makes of stacks, neighbours and the machine."""

from __future__ import annotations

from typing import Any

from torchtop.frozen import freeze
from torchtop.record import (
    CoreRates,
    MachineSample,
    Neighbour,
    Neighbours,
    ProcessSample,
    StackBurst,
    StackFrame,
    StackTally,
)
from torchtop.seen import RankSeen, Seen
from torchtop.window import Window

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
