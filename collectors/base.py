"""What every collector has in common: a name, a life, and a meter that the session reads.

A collector yields raw readings and judges nothing. One word is the file, the `name`, and the health row.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from typing import ClassVar, Protocol

import anyio

from torchtop.errors import Unavailable
from torchtop.record import Sample


class Meter:
    """Counts what reading a source costs. Written by the collector, read by the session."""

    def __init__(self) -> None:
        self.reads = 0
        self.failures = 0
        self.late = 0
        self.total_s = 0.0
        self.reason: str | None = None

    @property
    def mean_s(self) -> float | None:
        """s per read, or None before the first one."""
        return self.total_s / self.reads if self.reads else None


class Collector(Protocol):
    """The life of a source: `open` (raises `Unavailable`), `samples` until cancelled, `close`."""

    name: ClassVar[str]
    meter: Meter

    async def open(self) -> None: ...
    def samples(self) -> AsyncIterator[Sample]: ...
    async def close(self) -> None: ...


class Polled(ABC):
    """A collector that is asked once every `period_s` seconds.

    A late tick is dropped and counted, not caught up: a stalled host needs no burst of reads.
    A read that fails is counted, its reason kept for the health row, and the next tick tries again.
    """

    name: ClassVar[str]

    def __init__(self, period_s: float) -> None:
        self.period_s = period_s
        self.meter = Meter()

    @abstractmethod
    async def open(self) -> None:
        """Prepare to read; raise `Unavailable` with what is missing."""

    @abstractmethod
    async def read(self) -> Sequence[Sample]:
        """Take one reading. May raise OSError or `Unavailable`: counted, shown, tried again."""

    async def close(self) -> None:  # noqa: B027  (most sources hold nothing)
        """Release what `open` took. Closing twice is fine."""

    async def samples(self) -> AsyncIterator[Sample]:
        """Yield readings at the collector's period until cancelled."""
        due = time.monotonic()
        expected: tuple[type[Exception], ...] = (OSError, ValueError, Unavailable, *self.expected_failures())
        while True:
            began = time.monotonic()
            try:
                batch = await self.read()
                self.meter.reason = None
            except expected as error:
                self.meter.failures += 1
                self.meter.reason = str(error) or type(error).__name__
                batch = ()
            now = time.monotonic()
            self.meter.reads += 1
            self.meter.total_s += now - began
            for sample in batch:
                yield sample
            due += self.period_s
            if due < now:
                self.meter.late += 1
                due = now + self.period_s
            await anyio.sleep(due - time.monotonic())

    @staticmethod
    def expected_failures() -> tuple[type[Exception], ...]:
        """Exceptions of this source's library that mean "no reading now"; anything else is a bug."""
        return ()
