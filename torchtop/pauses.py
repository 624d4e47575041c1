"""What the training thread does beside the step itself, as the probe told: garbage, checkpoints, gradients cleared."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from torchtop.seen import GcPause, Save, ZeroGrad
from torchtop.snapshot import Frame

_RUNS = 4_000  # runs of the garbage collector, and as many saves
_SUMS = 4_000  # readings of what is summed up, one a second at most


class _Sums(NamedTuple):
    """What came to the sums in one reading."""

    t: float
    gc_s: float
    calls: int
    seconds: float
    kept: int


class Pauses:
    """Of one rank and one window."""

    def __init__(self) -> None:
        self.runs: deque[GcPause] = deque(maxlen=_RUNS)
        self.saves: deque[Save] = deque(maxlen=_RUNS)
        self._sums: deque[_Sums] = deque(maxlen=_SUMS)
        self._kept_at: Frame | None = None
        self._told = False

    def add(self, body: dict[str, Any]) -> None:
        """Take in a `pauses` message."""
        self._told = True
        for t, seconds, generation, explicit, line in body["gc"]:
            self.runs.append(GcPause(t, seconds, generation, _frame(line), explicit))
        for t, seconds, function, line in body["saves"]:
            self.saves.append(Save(t, seconds, function, _frame(line)))
        calls, seconds, kept, line = body["zero_grad"]
        if calls or body["gc_s"]:
            self._sums.append(_Sums(body["t"], body["gc_s"], calls, seconds, kept))
        self._kept_at = _frame(line) or self._kept_at

    @property
    def gc_seconds(self) -> float | None:
        """s in all runs of the collector, None when no probe has told of any."""
        return sum(one.gc_s for one in self._sums) if self._told else None

    @property
    def zero_grad(self) -> ZeroGrad | None:
        """Calls of zero_grad, None when there were none."""
        calls = sum(one.calls for one in self._sums)
        if not calls:
            return None
        kept = sum(one.kept for one in self._sums)
        return ZeroGrad(calls, sum(one.seconds for one in self._sums), kept, self._kept_at if kept else None)

    def forget_before(self, t: float) -> None:
        """Drop what was before `t`."""
        for known in (self.runs, self.saves, self._sums):
            while known and known[0].t < t:
                known.popleft()


def _frame(line: tuple[str, str, int] | None) -> Frame | None:
    return None if line is None else Frame(function=line[0], file=line[1], line=line[2])
