"""What the training thread does between a forward pass and its backward pass, and is no loss: metrics, files, figures.

By the clock it is part of forward. How long it takes in all is what forward lasts beyond the root modules; how much of
that is no loss, stacks tell.
"""

from __future__ import annotations

from torchtop.advisor.acting import is_root
from torchtop.advisor.judgement import Abstain
from torchtop.advisor.lines import NONE_YET, samples_between
from torchtop.advisor.statistics import Interval, proportion, share
from torchtop.seen import RankSeen

FEWEST = 40  # samples, two seconds of them: a share of fewer is too uncertain


def between(rank: RankSeen, least: float) -> Interval | Abstain | None:
    """Its share of the step; None below `least`, and where no module or no forward pass was timed."""
    roots_s = sum(layer.forward_s or 0.0 for layer in rank.layers if is_root(layer))
    if roots_s <= 0 or rank.on_cuda:
        return None
    whole = [phase.step_s for phase in rank.phases]
    found = share([phase.forward or 0.0 for phase in rank.phases], whole)
    if found is None or not any(whole):
        return None
    known = roots_s * len(whole) / sum(whole)
    if found.low - known < least:
        return None
    if rank.own_stacks is None or rank.own_stacks.samples < FEWEST:
        return Abstain(rank.stacks_reason or NONE_YET)
    seen = proportion(samples_between(rank), rank.own_stacks.samples)
    return Interval(min(seen.mean, found.mean - known), min(seen.low, found.low - known), min(seen.high, found.high))
