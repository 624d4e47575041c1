"""Readings of the process of a rank and of its loader workers, each kept by itself: they come and go."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain

from torchtop.record import ProcessSample

_LOOK_S = 0.5  # s: all processes of one look are read within milliseconds, and a look is a second
_READINGS = 4_000  # of the rank
_READINGS_OF_WORKER = 600  # at one a second ten minutes
_WORKERS = 256  # of a rank, those that are gone counted: who is gone longest is forgotten first


class Processes:
    """Of one rank. own: of the rank itself; workers: pid -> its readings, those that are gone too."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.own: deque[ProcessSample] = deque(maxlen=_READINGS)
        self.workers: dict[int, deque[ProcessSample]] = {}
        self.last_t: float | None = None

    def take(self, sample: ProcessSample) -> None:
        """Take in one reading."""
        self.last_t = sample.t
        if sample.pid == self._pid:
            self.own.append(sample)
            return
        known = self.workers.get(sample.pid)
        if known is None:
            if len(self.workers) >= _WORKERS:
                del self.workers[min(self.workers, key=lambda pid: self.workers[pid][-1].t)]
            known = self.workers[sample.pid] = deque(maxlen=_READINGS_OF_WORKER)
        known.append(sample)

    def __iter__(self) -> Iterator[ProcessSample]:
        """All readings, one process after the other."""
        return chain(self.own, *self.workers.values())

    @property
    def alive(self) -> dict[int, deque[ProcessSample]]:
        """Workers that were there at the last look."""
        last_t = self.last_t or 0.0
        return {pid: readings for pid, readings in self.workers.items() if last_t - readings[-1].t < _LOOK_S}

    def forget_before(self, t: float) -> None:
        """Drop what was read before `t`; the latest reading of the rank stays, and workers that are gone go."""
        while len(self.own) > 1 and self.own[0].t < t:
            self.own.popleft()
        for pid, readings in list(self.workers.items()):
            while readings and readings[0].t < t:
                readings.popleft()
            if not readings:
                del self.workers[pid]
