"""What the agent tells of pauses: garbage, checkpoints, gradients cleared; and what CUDA's allocator holds."""

from __future__ import annotations

import time

from . import wire
from .watch import facts
from .watch.program import plain

_PAUSES = 200  # runs of the garbage collector, and saves, in one message
_SUMS_S = 0.5  # s between two looks at what is summed up, and at the allocator


class PauseTeller:
    """What is summed up travels as what came to it since the last message: whoever comes later counts from there."""

    def __init__(self, send):
        self._send = send
        self._sums = None
        self._sums_due = 0.0

    def known(self):
        """(kind, body) of what a client who comes later needs: that there is nothing yet."""
        return [(wire.PAUSES, _nothing(time.monotonic()))] if self._sums is not None else []

    def tell(self, watch):
        """Everything new since the last call."""
        runs, saves = _all_of(watch.garbage.runs), _all_of(watch.saving.saves)
        for at in range(0, max(len(runs), len(saves)), _PAUSES):
            body = _nothing(time.monotonic())
            body["gc"] = [[*run[:-1], _line(run[-1])] for run in runs[at : at + _PAUSES]]
            body["saves"] = [[*save[:-1], _line(save[-1])] for save in saves[at : at + _PAUSES]]
            self._send(wire.PAUSES, body)
        now = time.monotonic()
        if now < self._sums_due:
            return
        self._sums_due = now + _SUMS_S
        clearing = watch.clearing
        sums = (watch.garbage.seconds, clearing.calls, clearing.seconds, clearing.kept)
        if sums != self._sums:
            gc_s, *cleared = [after - before for after, before in zip(sums, self._sums or (0.0, 0, 0.0, 0))]
            self._sums = sums
            self._send(wire.PAUSES, dict(_nothing(now), gc_s=gc_s, zero_grad=[*cleared, _line(clearing.kept_at)]))
        held = facts.allocator(watch.torch, watch.optimizers.alive())
        if held is not None:
            self._send(wire.ALLOCATOR, dict(held, t=now))


def _nothing(now):
    """Body of a `pauses` message in which nothing has happened."""
    return {"t": now, "gc": [], "saves": [], "gc_s": 0.0, "zero_grad": [0, 0.0, 0, None]}


def _all_of(queue):
    """What is in a deque that another thread fills, taken out."""
    taken = []
    while queue:
        taken.append(queue.popleft())
    return taken


def _line(line):
    """A line of the program as it travels: function, file, line."""
    return None if line is None else [plain(line[0]), plain(line[1]), line[2]]
