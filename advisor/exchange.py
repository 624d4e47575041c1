"""How long the ranks of a DistributedDataParallel job wait in backward: for their gradients, or for one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torchtop.advisor.cores import run_delay
from torchtop.advisor.statistics import median, percentile
from torchtop.record import StepRow
from torchtop.seen import RankSeen, Seen

_LATEST = 200  # steps of each rank that are looked at: enough for a mean, and 1 ms for 8 ranks
_READINGS = 60  # of the process, one a second
_MUCH = 0.9  # part of those readings that are not above what it uses when it computes
_APART = 0.5  # share of a step by which two ranks may end the same step apart


class Matched(NamedTuple):
    """One step that was seen on every rank. wait_s: of the rank that waited least in backward."""

    wait_s: float
    step_s: float


class Waits(NamedTuple):
    """The latest steps of one rank, and s that it waited in backward in each; none of it where that was not measured."""

    rows: Sequence[StepRow]
    seconds: Sequence[float]

    @property
    def mean_s(self) -> float:
        """s per step; 0.0 where it was not measured."""
        return sum(self.seconds) / len(self.seconds) if self.seconds else 0.0


def waits(rank: RankSeen) -> Waits:
    """In backward, less the time in which the rank was ready and had no CPU. Three rules ask: the rank keeps it."""
    kept: Waits | None = vars(rank).get("_waits")
    if kept is None:
        kept = vars(rank)["_waits"] = _waits(rank)
    return kept


def _waits(rank: RankSeen) -> Waits:
    rows = rank.plain[-_LATEST:]
    if all(row.backward_wait_s is None for row in rows):
        return Waits((), ())
    delay = run_delay(rank)
    ready = delay.mean if delay is not None else 0.0
    return Waits(rows, [max((row.backward_wait_s or 0.0) - ready * (row.backward_s or 0.0), 0.0) for row in rows])


def waits_in_forward(seen: Seen) -> dict[int, float]:
    """pid -> s per step that a rank waits in forward for another one, as far as it is sure; without those that do not.

    DistributedDataParallel begins forward with the buffers of the first rank: who is early waits there, not in backward.
    No thread tells so. But the process cannot compute in forward for longer than it uses the CPU outside of backward; and
    a rank that is held up in its own forward is one that all others wait for in backward: that much is taken off.
    """
    if seen.on_gpu:
        return {}
    in_backward = {rank.pid: waits(rank).mean_s for rank in seen.ranks}
    found = {}
    for rank in seen.ranks:
        others = [wait_s for pid, wait_s in in_backward.items() if pid != rank.pid]
        wait_s = _no_cpu_in_forward_s(rank) - min(others, default=0.0)
        if wait_s > 0:
            found[rank.pid] = wait_s
    return found


def _no_cpu_in_forward_s(rank: RankSeen) -> float:
    """s of the forward pass in which the process neither used a CPU nor was ready to, by what it uses when it uses much:
    in other readings it may have waited for a validation or a checkpoint of another rank."""
    forward = [phase.forward for phase in rank.phases if phase.forward is not None]
    cpu = [one.cpu_share for one in rank.processes[-_READINGS:] if one.cpu_share is not None]
    rows = rank.plain[-_LATEST:]
    if not forward or not cpu or not rows:
        return 0.0
    forward_s, delay = median(forward), run_delay(rank)
    computed_s = sum((row.backward_s or 0.0) - (row.backward_wait_s or 0.0) for row in rows) / len(rows)
    used_s = max(percentile(cpu, _MUCH) * sum(row.step_s for row in rows) / len(rows) - computed_s, 0.0)
    return max(forward_s * (1 - (delay.high if delay is not None else 0.0)) - used_s, 0.0)


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
    if not all(waits(rank).rows for rank in seen.ranks):
        return "the wait in backward was not measured on every rank"
    return None


def matched(seen: Seen) -> list[Matched]:
    """The latest steps that all ranks were seen to do, found by when they ended: the clock is the machine's."""
    slow = seen.slow
    if slow is None:
        return []
    own, others = waits(slow), [waits(rank) for rank in seen.ranks if rank is not slow]
    twins = [_nearest(other.rows, own.rows) for other in others]
    found = []
    for at, (row, waited) in enumerate(zip(own.rows, own.seconds, strict=True)):
        least, apart = waited, _APART * row.step_s
        for other, places in zip(others, twins, strict=True):
            place = places[at]
            if place is None or abs(other.rows[place].t_end - row.t_end) > apart:
                break
            least = min(least, other.seconds[place])
        else:
            found.append(Matched(least, row.step_s))
    return found


def _nearest(rows: Sequence[StepRow], to: Sequence[StepRow]) -> list[int | None]:
    """Of each of `to` the place of the step in `rows` that ended nearest to it."""
    if not rows:
        return [None] * len(to)
    places: list[int | None] = []
    at, last = 0, len(rows) - 1
    for row in to:
        t = row.t_end
        while at < last and abs(rows[at + 1].t_end - t) <= abs(rows[at].t_end - t):
            at += 1
        places.append(at)
    return places
