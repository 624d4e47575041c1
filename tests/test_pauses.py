"""Pauses in the window: sums are of the window, and another probe goes on where the one before ended."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from torchtop.frozen import facts, freeze
from torchtop.probe import wire
from torchtop.probe.watch import facts as probe_facts
from torchtop.record import ProbeMessage
from torchtop.seen import Allocator, GcPause, RankSeen, Save, ZeroGrad
from torchtop.snapshot import Frame
from torchtop.window import Window
from torchtop.wire_message import check

AT = Frame(function="main", file="train.py", line=7)


def told(t: float, **changes: Any) -> dict[str, Any]:
    """A message at `t`: one collection, one checkpoint, two calls of zero_grad."""
    body: dict[str, Any] = {
        "t": t,
        "gc": [[t - 0.5, 0.1, 2, True, ["main", "train.py", 7]]],
        "saves": [[t - 0.2, 0.3, "torch.save", None]],
        "gc_s": 0.15,
        "zero_grad": [2, 0.01, 1, ["main", "train.py", 7]],
    }
    return {**body, **changes}


def say(window: Window, body: dict[str, Any], kind: str = wire.PAUSES) -> None:
    check({"type": kind, **body})
    window.take(ProbeMessage(t=0.0, rank_pid=1, type=kind, body=body))


def seen(window: Window) -> RankSeen:
    return freeze(window, [(1, 0)], 10.0, 10.0).ranks[0]


def test_nothing_told_is_not_nothing() -> None:
    window = Window([1], 0.0)
    assert (seen(window).gc_seconds, seen(window).zero_grad) == (None, None)
    say(window, {"t": 1.0, "gc": [], "saves": [], "gc_s": 0.0, "zero_grad": [0, 0.0, 0, None]})
    assert (seen(window).gc_seconds, seen(window).zero_grad) == (0.0, None)


def test_what_was_before_the_window_does_not_count() -> None:
    window = Window([1], 0.0)
    for t in (1.0, 2.0, 3.0):
        say(window, told(t))
    assert seen(window).gc_seconds == pytest.approx(0.45)
    assert seen(window).zero_grad == ZeroGrad(6, 0.03, 3, AT)
    window.forget_before(1.9)
    rank = seen(window)
    assert rank.gc_pauses == (GcPause(2.5, 0.1, 2, AT, True),)
    assert rank.saves == (Save(2.8, 0.3, "torch.save", None),)
    assert rank.gc_seconds == pytest.approx(0.3)
    assert rank.zero_grad is not None and rank.zero_grad.calls == 4


def test_another_probe_goes_on() -> None:
    window = Window([1], 0.0)
    say(window, told(1.0))
    window.replace(1)
    say(window, told(2.0))
    rank = seen(window)
    assert len(rank.gc_pauses) == len(rank.saves) == 2
    assert rank.gc_seconds == pytest.approx(0.3)
    assert rank.zero_grad is not None and rank.zero_grad.calls == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"gc": [[1.0, -0.1, 2, True, None]]},
        {"gc": [[1.0, 0.1, 3, True, None]]},
        {"gc": [[1.0, 0.1, 2, True, ["main", "train.py", -7]]]},
        {"saves": [[1.0, None, "torch.save", None]]},
        {"zero_grad": [1, 0.1, 1]},
        {"gc_s": None},
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="pauses"):
        check({"type": wire.PAUSES, **told(1.0, **changes)})


def stats(**changes: int) -> dict[str, Any]:
    """As torch._C._cuda_memoryStats gives them, shortened."""
    pools = {"current": 10, "peak": 20, "allocated": 100, "freed": 90}
    return {
        "allocated_bytes": {"all": pools, "small_pool": pools},
        "reserved_bytes": {"all": {**pools, "current": 40}},
        "num_alloc_retries": 3,
        **changes,
    }


def test_the_allocator_of_the_device_that_holds_the_parameters() -> None:
    asked: list[int] = []

    def memory_stats_as_nested_dict(device: int) -> dict[str, Any]:
        asked.append(device)
        return stats()

    cuda = SimpleNamespace(is_initialized=lambda: True, memory_stats_as_nested_dict=memory_stats_as_nested_dict)
    on_host, on_device = (
        SimpleNamespace(device=SimpleNamespace(type=t, index=i)) for t, i in (("cpu", None), ("cuda", 5))
    )
    optimizer = SimpleNamespace(param_groups=[{"params": []}, {"params": [on_host]}, {"params": [on_device]}])
    known = probe_facts.allocator(SimpleNamespace(cuda=cuda), [optimizer])  # type: ignore[no-untyped-call]
    assert asked == [5]
    window = Window([1], 0.0)
    say(window, {**known, "t": 2.0}, wire.ALLOCATOR)
    assert seen(window).allocator == (Allocator(2.0, 10, 40, 20, 3),)
    no_cuda = SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: False))
    assert probe_facts.allocator(no_cuda, [optimizer]) is None  # type: ignore[no-untyped-call]


def test_compilations_as_they_are_told() -> None:
    at = {"function": "step", "file": "train.py", "line": 3}
    known = facts({"compilations": [{"at": at, "count": 8, "seconds": 4.5, "reason": "size mismatch"}]})
    (one,) = known.compilations
    assert (one.at.line, one.count, one.reason) == (3, 8, "size mismatch")
