"""How long the ranks of a DistributedDataParallel job wait in backward: for their gradients, or for one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torchtop.advisor.cores import run_delay
from torchtop.record import StepRow
from torchtop.seen import RankSeen, Seen

_LATEST = 200  # steps of each rank that are looked at: enough for a mean, and 1 ms for 8 ranks
_APART = 0.5  # share of a step by which two ranks may end the same step apart


class Matched(NamedTuple):
    """One step that was seen on every rank. wait_s: of the rank that waited least in backward."""

    wait_s: float
    step_s: float


class Waits:
    """Steps of one rank, and how long it waited in each."""

    def __init__(self, rank: RankSeen) -> None:
        self.rank = rank
        self.rows: Sequence[StepRow] = rank.plain[-_LATEST:]
        delay = run_delay(rank)
        # A thread that is ready and gets no CPU looks as if it waited.
        self._delay = delay.mean if delay is not None else 0.0
        self._at = 0

    @property
    def known(self) -> bool:
        """Whether the wait was measured at all."""
        return any(row.backward_wait_s is not None for row in self.rows)

    def wait_s(self, row: StepRow) -> float:
        """s in which the rank waited in backward, less what it was ready to run without a CPU."""
        return max((row.backward_wait_s or 0.0) - self._delay * (row.backward_s or 0.0), 0.0)

    def nearest(self, t: float) -> StepRow | None:
        """The step that ended nearest to `t`, which must not go back."""
        rows = self.rows
        if not rows:
            return None
        while self._at + 1 < len(rows) and abs(rows[self._at + 1].t_end - t) <= abs(rows[self._at].t_end - t):
            self._at += 1
        return rows[self._at]


def in_ddp(rank: RankSeen) -> bool:
    """Whether its model is wrapped in DistributedDataParallel."""
    return "DistributedDataParallel" in rank.facts.roots or rank.facts.find_unused_parameters is not None


def why_not_known(seen: Seen) -> str | None:
    """Why the exchange of gradients cannot be told from other waiting in a CPU job; None when it can."""
    if seen.on_gpu:
        return "on a GPU the host's wait in backward is not that for gradients"
    if seen.world_size is not None and seen.world_size > len(seen.ranks):
        return f"{len(seen.ranks)} of {seen.world_size} ranks are attached: the others may be waited for"
    if any(rank.facts.threads != 1 for rank in seen.ranks):
        return "unless a rank has one thread only, waiting for the others looks like waiting for gradients"
    if not all(Waits(rank).known for rank in seen.ranks):
        return "the wait in backward was not measured on every rank"
    return None


def matched(seen: Seen) -> list[Matched]:
    """The latest steps that all ranks were seen to do, found by when they ended: the clock is the machine's."""
    slow = seen.slow
    if slow is None:
        return []
    own, others = Waits(slow), [Waits(rank) for rank in seen.ranks if rank is not slow]
    found = []
    for row in own.rows:
        waits = [own.wait_s(row)]
        for other in others:
            twin = other.nearest(row.t_end)
            if twin is None or abs(twin.t_end - row.t_end) > _APART * row.step_s:
                break
            waits.append(other.wait_s(twin))
        else:
            found.append(Matched(min(waits), row.step_s))
    return found
