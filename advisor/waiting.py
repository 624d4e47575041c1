"""How long steps wait for the DataLoader: all the time, and at the start of each epoch; and whether a GPU hides it."""

from __future__ import annotations

from typing import NamedTuple

from torchtop.advisor import gpus
from torchtop.advisor.judgement import Abstain
from torchtop.advisor.recurring import share_of_time
from torchtop.advisor.statistics import Interval, share
from torchtop.probe import wire
from torchtop.record import StepRow
from torchtop.seen import RankSeen, Seen

_EPOCHS = 2  # starts in the window: a single one may be the only one there is
_HIDDEN = 0.8  # of the time that the GPU works: what the host waits for is done before it runs dry (gpu-idle 0.1.0)
_FIRST = wire.FIRST_OF_EPOCH | wire.VALIDATION | wire.IDLE
_ABOVE = 2.0  # times the usual wait, which the wait at a start has to be to be told apart


class Waiting(NamedTuple):
    """share: of all time. at_starts: of all time, part of `share`; None where epochs do not come again and again.

    start_s: s waited at the start of an epoch, mean; step_s: s per step, starts of epochs included.
    """

    share: Interval
    at_starts: Interval | None
    start_s: float
    step_s: float


def waiting(rank: RankSeen) -> Waiting | None:
    """What the rank waits for its loader; None where it never took a batch from one, or for fewer than three steps.

    Two rules ask, of thousands of steps: the rank keeps it.
    """
    if "_waiting" not in vars(rank):
        vars(rank)["_waiting"] = _waiting(rank)
    kept: Waiting | None = vars(rank)["_waiting"]
    return kept


def _waiting(rank: RankSeen) -> Waiting | None:
    plain = rank.plain
    if all(row.data_s is None for row in plain):
        return None
    usual = share([row.data_s or 0.0 for row in plain], [row.step_s for row in plain])
    if usual is None:
        return None
    step_s = sum(row.step_s for row in plain) / len(plain)
    starts = _starts(rank)
    if len(starts) < _EPOCHS:
        return Waiting(usual, None, 0.0, step_s)
    start_s = sum(row.data_s or 0.0 for row in starts) / len(starts)
    at_starts = share_of_time(
        [row.t_end for row in starts],
        [row.data_s or 0.0 for row in starts],
        rank.steps[0].t_end - rank.steps[0].step_s,
        rank.steps[-1].t_end,
    )
    if at_starts is None or start_s <= _ABOVE * usual.mean * step_s:
        return Waiting(usual, None, 0.0, step_s)
    rest = max(1 - at_starts.mean, 0.0)
    both = Interval(*(a + b for a, b in zip(at_starts, usual.times(rest), strict=True)))
    return Waiting(both, at_starts, start_s, sum(row.step_s for row in rank.steps) / len(rank.steps))


def _starts(rank: RankSeen) -> list[StepRow]:
    """First steps of epochs, without those that hold a validation: its loader is waited for in them as well. Where most
    steps are one, they are plain steps and counted there."""
    if any(row.flags & wire.FIRST_OF_EPOCH for row in rank.plain):
        return []
    return [row for row in rank.steps if row.flags & _FIRST == wire.FIRST_OF_EPOCH]


def hidden(seen: Seen, rank: RankSeen) -> bool | Abstain:
    """Whether the rank's GPU is busy all the same, so that what holds the host up costs nothing; False on a CPU."""
    if not rank.on_cuda:
        return False
    found = gpus.of_rank(seen, rank)
    if isinstance(found, Abstain):
        return found
    busy = found[0].mean("util", lambda one: one.util)
    return busy if isinstance(busy, Abstain) else busy.mean >= _HIDDEN
