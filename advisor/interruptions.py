"""What of a step the garbage collector and checkpoints took."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import merge

from torchtop.record import StepRow
from torchtop.seen import RankSeen


def interrupted_s(rank: RankSeen, rows: Sequence[StepRow]) -> list[float]:
    """s of each of `rows` (in order of time) in collections and saves that ended in it."""
    found = [0.0] * len(rows)
    if not rows:
        return found
    events = merge(((one.t, one.seconds) for one in rank.gc_pauses), ((one.t, one.seconds) for one in rank.saves))
    at = 0
    for t, seconds in events:
        while at < len(rows) and rows[at].t_end < t:
            at += 1
        if at == len(rows):
            break
        if t > rows[at].t_end - rows[at].step_s:
            found[at] = min(found[at] + seconds, rows[at].step_s)
    return found
