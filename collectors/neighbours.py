"""The busiest processes that are not the job's: who else wants the CPUs. From /proc/PID/stat (proc(5)).

What is the job's: its ranks, what started them, all that those started, and torchtop itself with its py-spy. In a
container only the processes of its own PID namespace are there; with hidepid only those of the same user. A process that
begins and ends between two looks is not seen.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import anyio
import anyio.to_thread

from torchtop.attach.proc import Stat, parse_stat
from torchtop.collectors.base import Polled
from torchtop.errors import Unavailable
from torchtop.record import Neighbour, Neighbours

MOST = 8
LEAST_CORES = 0.05  # less takes nothing from anybody, and every machine has dozens of those
TIMEOUT_S = 5.0  # a look takes milliseconds


class Look(NamedTuple):
    """All processes at one moment."""

    t: float
    stats: dict[int, Stat]


def family(stats: Mapping[int, Stat], heads: Iterable[int]) -> set[int]:
    """The processes `heads` and all that they started, as far as the ones between are still there."""
    children: dict[int, list[int]] = {}
    for pid, stat in stats.items():
        children.setdefault(stat.parent, []).append(pid)
    found: set[int] = set()
    waiting = list(heads)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, ())
    return found


def busiest(now: Look, before: Look, ours: set[int]) -> tuple[Neighbour, ...]:
    """Who else used most CPU time between the two looks, the most first. A process that is new began from nothing."""
    seconds = now.t - before.t
    if seconds <= 0:
        return ()
    found = []
    for pid, stat in now.stats.items():
        if pid in ours:
            continue
        known = before.stats.get(pid)
        same = known is not None and known.start_ticks == stat.start_ticks
        cores = (stat.cpu_s - (known.cpu_s if known is not None and same else 0.0)) / seconds
        if cores >= LEAST_CORES:
            found.append(Neighbour(t=now.t, pid=pid, name=stat.name, cores=cores))
    return tuple(sorted(found, key=lambda one: (-one.cores, one.pid))[:MOST])


class NeighboursCollector(Polled):
    """Everybody else. Cost: some 10 us for each process of the machine, in a worker thread."""

    name: ClassVar[str] = "neighbours"

    def __init__(
        self,
        rank_pids: tuple[int, ...],
        launcher: int | None = None,
        period_s: float = 5.0,
        proc: Path = Path("/proc"),
    ) -> None:
        super().__init__(period_s)
        self._heads = rank_pids
        self._launcher = launcher
        self._proc = proc
        self._before: Look | None = None

    def follow(self, rank_pids: tuple[int, ...]) -> None:
        """These are the job's ranks from now on."""
        self._heads = rank_pids

    async def open(self) -> None:
        if not (self._proc / "self/stat").exists():
            raise Unavailable(f"there are no processes in {self._proc}: torchtop needs Linux with /proc mounted")

    async def read(self) -> Sequence[Neighbours]:
        """One look; nothing the first time, when there is none to compare with."""
        with anyio.move_on_after(TIMEOUT_S):
            now = await anyio.to_thread.run_sync(look, self._proc, abandon_on_cancel=True)
            before, self._before = self._before, now
            if before is None:
                return ()
            launcher = () if self._launcher is None else (self._launcher,)
            ours = family(now.stats, (os.getpid(), *launcher, *self._heads))
            return (Neighbours(t=now.t, processes=busiest(now, before, ours)),)
        raise TimeoutError(f"reading {self._proc} took more than {TIMEOUT_S:.0f} s")


def look(proc: Path) -> Look:
    """The stat file of every process that may be read."""
    t = time.monotonic()
    stats = {}
    for name in os.listdir(proc):
        if name.isdecimal():
            try:
                with open(f"{proc}/{name}/stat", "rb", buffering=0) as file:
                    stats[int(name)] = parse_stat(file.read().decode(errors="replace"))
            except OSError:  # it ended meanwhile, or is hidden from this user
                continue
    return Look(t, stats)
