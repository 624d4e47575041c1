"""Rare work on the training thread, a piece at a time between two steps: how long a piece may take, and when the next."""

from __future__ import annotations

import time

_SHORTEST_S = 0.3e-3  # s of a piece at least: its first operation takes 0.15 ms, as a step leaves the caches cold
_LONGEST_S = 0.05  # s of a piece at most: of steps of minutes


class Pace:
    """Holds one kind of work under `part` of the probe's budget. What it costs is the budget's account, too."""

    def __init__(self, budget, part):
        self._budget = budget
        self._part = part
        self._due = 0.0
        self.pieces = 0
        self.cost_s = 0.0
        self.longest_s = 0.0

    def due(self, now):
        """Whether the pieces so far have been paid off."""
        return now >= self._due

    def piece_s(self, step_s):
        """s that a piece may take beside a step of `step_s`."""
        return min(max(self._part * self._budget.share * step_s, _SHORTEST_S), _LONGEST_S)

    def worked(self, began, cpu_began):
        """A piece that began at `began` (perf_counter, thread_time) is over.

        It costs the CPU time of this thread: one that is descheduled in a piece would have been so outside of it, too.
        """
        cost_s = time.thread_time() - cpu_began
        self._budget.cost_s += cost_s
        self._due = max(self._due, began) + cost_s / (self._part * self._budget.share)
        self.pieces += 1
        self.cost_s += cost_s
        self.longest_s = max(self.longest_s, cost_s)
