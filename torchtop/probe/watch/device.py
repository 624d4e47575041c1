"""Device time at the marks of a step: CUDA events from a pool, read when they are done, never waited for.

`new_event` makes an object with `record()`, `query()` and `elapsed_time(other)` in ms, as torch.cuda.Event does; tests
hand in fakes. Nothing here synchronises: an event that does not complete is given up after a deadline and counted.
"""

from __future__ import annotations

import time
from collections import deque

POOL = 4096  # events; more marks than that in flight are timed by the host's clock alone
GIVE_UP_S = 30.0  # s after which an event that has not completed counts as lost


class Timeline:
    """Events recorded on the current stream of one device."""

    def __init__(self, new_event, capturing, pool=POOL, give_up_s=GIVE_UP_S):
        self._new_event = new_event
        self._capturing = capturing
        self._limit = pool
        self._give_up_s = give_up_s
        self._made = 0
        self._free = deque()
        self._current = []
        self._pending = deque()
        self.exhausted = 0
        self.captured = 0
        self.lost = 0

    def mark(self, position):
        """Record an event for mark number `position`; skipped while a graph is captured or the pool is empty."""
        if self._capturing():
            self.captured += 1
            return
        event = self._take()
        if event is None:
            self.exhausted += 1
            return
        event.record()
        self._current.append((position, event))

    def close(self, step):
        """End of the step's marks; they wait for the device from now on."""
        if self._current:
            self._pending.append((step, time.monotonic(), self._current))
            self._current = []

    def collect(self):
        """Return [(step, [(position, s since the step's first event), ...])] for steps whose events are all done.

        Steps may complete out of order; each is returned as soon as it is whole.
        """
        done, waiting = [], deque()
        now = time.monotonic()
        while self._pending:
            step, closed, events = self._pending.popleft()
            if all(event.query() for _, event in events):
                first = events[0][1]
                done.append((step, [(position, first.elapsed_time(event) / 1e3) for position, event in events]))
                self._free.extend(event for _, event in events)
            elif now - closed > self._give_up_s:
                # Its events go nowhere: one that is recorded again while still pending would lie.
                self.lost += 1
                self._made -= len(events)
            else:
                waiting.append((step, closed, events))
        self._pending = waiting
        return done

    def _take(self):
        if self._free:
            return self._free.popleft()
        if self._made >= self._limit:
            return None
        self._made += 1
        return self._new_event()


def cuda_timeline(torch):
    """A timeline for the current CUDA device, or None when this process does not use CUDA."""
    if not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return Timeline(lambda: torch.cuda.Event(enable_timing=True), torch.cuda.is_current_stream_capturing)
