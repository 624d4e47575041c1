"""Steps of a model that several threads call at once, as a server does: each call of the root is a step.

Threads may be made for one call each, so a step cannot run from one call of a thread to its next. The time of a step is
that from the begin of one call to the begin of the next, whoever makes it: the steps add up to the time that passed. An
armed step is one call, from its begin to its end.

No lock: a thread of the program must not wait for one of ours. What the threads share are deques, whose append and pop
are one operation of the interpreter.
"""

from __future__ import annotations

import time
from collections import deque

from ..wire import ARMED

_KEEP = 65_536  # calls between two visits of the agent; older ones are dropped and counted


class SeveralThreads:
    """The calls, and who of them is looked into."""

    def __init__(self, clock, budget, now):
        self._clock = clock
        self._budget = budget
        self._calls = deque(maxlen=_KEEP)
        self._turn = deque()
        self._last = (now, 0)
        self._since_armed = 0

    def call(self, ident, now):
        """A thread calls the root. Returns what `ended` is to be called with after that call, or None."""
        marks = None
        if self._turn:
            try:
                self._turn.pop()
            except IndexError:
                pass  # another thread was quicker
            else:
                clock = self._clock
                clock.trained_by(ident)
                clock.arm(ident)
                marks = clock.marks
        if len(self._calls) == _KEEP:
            self._clock.dropped += 1
        self._calls.append((now, ARMED if marks is not None else 0))
        return marks and (marks, time.perf_counter())

    def ended(self, call):
        """The call that is looked into has returned."""
        marks, began = call
        ended = time.perf_counter()
        if self._clock.marks is marks:
            self._clock.disarm_now()
            self._clock.armed_step(marks, began, ended)
        self._since_armed = 0

    def rows(self):
        """Rows of the steps that have ended, as StepClock makes them. Agent thread; arms the next call when it is due."""
        calls = []
        while self._calls:
            calls.append(self._calls.popleft())
        # A thread may have looked at the clock and then been kept from its append.
        calls.sort()
        rows = []
        for now, flags in calls:
            before, its_flags = self._last
            step_s = max(now - before, 0.0)
            rows.append((max(now, before), step_s, its_flags, 0, None, None, None, None, None))
            self._budget.any_step(step_s, bool(its_flags))
            self._clock.begun += 1
            self._last = (max(now, before), flags)
        self._since_armed += len(calls)
        if self._since_armed >= self._budget.every and self._clock.marks is None and not self._turn:
            self._turn.append(True)
        return rows
