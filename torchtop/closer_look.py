"""A closer look at a job: bursts of stacks where a finding lacks its line, and what the weights are like."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

import anyio

from torchtop.collectors.probe import ProbeCollector
from torchtop.judging import Wanted
from torchtop.probe import wire
from torchtop.record import StackBurst

_AIM_S = 2.0  # s between two looks at which findings lack the line of their cause
_ROUNDS = 6  # looks at one kind of thread of one rank; after them only now and then
_ROUND_AGAIN_S = 60.0  # s until the next, for a kind that had so many
_SCAN_FIRST_S = 2.0  # s after attach: the first steps are the job's own
_SCAN_AGAIN_S = 600.0  # s between two scans of the weights, which change slowly


class Bursts(Protocol):
    """What samples one thread: the `stacks` collector."""

    async def burst(self, pid: int, tid: int | None, seconds: float) -> StackBurst: ...


class Rounds:
    """Whose turn it is to be looked at.

    Counted by rank and kind of thread: workers that do not outlive an epoch are other processes each time.
    """

    def __init__(self) -> None:
        self._had: Counter[tuple[int, bool]] = Counter()
        self._due: dict[tuple[int, bool], float] = {}

    def turn(self, wanted: Sequence[Wanted], now: float) -> list[Wanted]:
        """Those of `wanted` that are looked at now."""
        ready = {one.kind for one in wanted if now >= self._due.get(one.kind, now)}
        for kind in ready:
            self._had[kind] += 1
            if self._had[kind] >= _ROUNDS:
                self._due[kind] = now + _ROUND_AGAIN_S
        return [one for one in wanted if one.kind in ready]


async def find_lines(
    wanted: Callable[[], Sequence[Wanted]],
    stacks: Bursts,
    take: Callable[[StackBurst], None],
    look: Callable[[], Awaitable[object]] | None = None,
    every_s: float = _AIM_S,
) -> None:
    """Sample the threads whose lines a finding lacks, until cancelled. look: judge anew, where nothing else does."""
    rounds = Rounds()
    while True:
        await anyio.sleep(every_s)
        if look is not None:
            await look()
        for thread in rounds.turn(wanted(), time.monotonic()):
            if not _is_there(thread.pid):
                continue
            burst = await stacks.burst(thread.pid, thread.tid, thread.seconds)
            if burst.tallies or _is_there(thread.pid):  # that it ended meanwhile is no reason that anybody needs
                take(burst)


async def scan_weights(probe: ProbeCollector, again: bool) -> None:
    """Ask a rank for what its weights are like: soon, and `again` now and then."""
    await anyio.sleep(_SCAN_FIRST_S)
    while not probe.ended:
        probe.send(wire.LOOK, what="weights")
        if not again:
            return
        await anyio.sleep(_SCAN_AGAIN_S)


def _is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
