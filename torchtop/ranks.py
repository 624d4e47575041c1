"""The ranks of the job that is watched: attach to each, notice its end, find the ones that take its place.

One rank that refuses, dies or is started anew does not lose the others.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Literal

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from torchtop.attach import ending
from torchtop.attach.connect import Connection, attach
from torchtop.attach.job import LocalJob, LocalRank, ranks_now
from torchtop.collectors.probe import ProbeCollector
from torchtop.collectors.stacks import main_line
from torchtop.errors import AttachError, ProbeImpossible, TorchtopError
from torchtop.probe import wire
from torchtop.report import RankInfo
from torchtop.snapshot import Attach

_GRACE_S = 1.5  # s that ranks which are attached wait for those that are not yet
_LAST_WORDS_S = 0.2  # s after the end of a process in which what its probe sent last arrives
_THREADS = 128  # attaches at a time: each waits in a thread of its own
_PATIENCE_S = 10.0  # s to wait for a safe point of a rank that was started anew
_AGAIN_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # s before each attempt to reach a probe that was lost; then it is given up
_WHERE_S = 1.0  # s of waiting after which it is worth to know what for: py-spy takes 50 ms
_LOOK_S = 2.0  # s between two looks for ranks that were started anew; a look reads some files per process

Welcome = Callable[[LocalRank, ProbeCollector], None]


class Ranks:
    """Each rank's probe, or why it has none."""

    def __init__(self, job: LocalJob, welcome: Welcome, reconnect: bool = False) -> None:
        """reconnect: attach again to a rank whose probe was lost while it runs on, instead of ending with the last."""
        self.job = job
        self._reconnect = reconnect
        self._waits_in: dict[int, str] = {}
        self._endings: dict[int, str] = {}
        self.known: dict[int, LocalRank] = {rank.pid: rank for rank in job.ranks}
        self.probes: dict[int, ProbeCollector] = {}
        self.folders: set[str] = set()
        self.alive: set[int] = set(self.known)
        self.over = False
        self.changed = anyio.Event()
        self.lost: AttachError | None = None
        self._gone: set[int] = set()
        self._welcome = welcome
        self._attached: dict[int, Attach] = {}
        self._problems: dict[int, TorchtopError] = {}
        self._attaching: set[int] = set()
        self._launcher_alive = job.launcher is not None
        self._threads = anyio.CapacityLimiter(_THREADS)

    # Coming

    async def attach_all(self, tasks: TaskGroup, patience_s: float) -> None:
        """Attach to all ranks at once; return when all have answered, or the first few seconds after one has.

        The rest is waited for in the background, each for at most `patience_s`.
        """
        for rank in list(self.known.values()):
            self._attach(tasks, rank, patience_s)
        grace: float | None = None
        while self._attaching and (grace is None or time.monotonic() < grace):
            with anyio.move_on_after(None if grace is None else max(grace - time.monotonic(), 0.0)):
                await self.changed.wait()
            self.changed = anyio.Event()
            if grace is None and self.probes:
                grace = time.monotonic() + _GRACE_S

    def watch_ends(self, tasks: TaskGroup) -> None:
        """Notice the end of each rank and of the launcher, and what the launcher starts anew."""
        for pid in self.known:
            tasks.start_soon(self._await_end, pid)
        if self.job.launcher is not None:
            tasks.start_soon(self._await_launcher, tasks, self.job.launcher)

    def _attach(self, tasks: TaskGroup, rank: LocalRank, patience_s: float) -> None:
        self._attaching.add(rank.pid)
        tasks.start_soon(self._attach_one, rank, patience_s)
        if self._reconnect:
            tasks.start_soon(self._say_where, rank)

    async def _attach_one(self, rank: LocalRank, patience_s: float) -> None:
        try:
            connection: Connection = await anyio.to_thread.run_sync(
                attach, rank.pid, patience_s, lambda: self.over, main_line, limiter=self._threads
            )
        except TorchtopError as problem:
            self._problems[rank.pid] = problem
        else:
            self._problems.pop(rank.pid, None)
            probe = ProbeCollector(rank.pid, connection.channel.socket)
            self._attached[rank.pid] = Attach(
                method=connection.method, hello_s=connection.hello_s, pause_s=connection.pause_s
            )
            self.folders |= set(connection.folders)
            self.probes[rank.pid] = probe
            self._welcome(rank, probe)
        finally:
            self._attaching.discard(rank.pid)
            self._waits_in.pop(rank.pid, None)
            self.changed.set()

    async def _say_where(self, rank: LocalRank) -> None:
        """Keep looking where the main thread is while it is waited for."""
        while rank.pid in self._attaching:
            await anyio.sleep(_WHERE_S)
            if rank.pid in self._attaching:
                line = await anyio.to_thread.run_sync(main_line, rank.pid, abandon_on_cancel=True)
                if line is not None:
                    self._waits_in[rank.pid] = line

    async def _await_launcher(self, tasks: TaskGroup, launcher: int) -> None:
        ended = anyio.Event()

        async def wait() -> None:
            await _end_of(launcher)
            ended.set()

        tasks.start_soon(wait)
        while not ended.is_set():
            with anyio.move_on_after(_LOOK_S):
                await ended.wait()
            # Ranks that torchelastic started again, and those that had not loaded torch when we came.
            for rank in await anyio.to_thread.run_sync(ranks_now, self.job):
                if rank.pid not in self.known and not self.over:
                    self.known[rank.pid] = rank
                    self.alive.add(rank.pid)
                    if self.probes:
                        self._attach(tasks, rank, _PATIENCE_S)
                    tasks.start_soon(self._await_end, rank.pid)
        self._launcher_alive = False
        self.changed.set()

    # Going

    async def _await_end(self, pid: int) -> None:
        """Notice the end of a rank by its pidfd: the socket may be held open by its forked workers."""
        status = await _end_of(pid)
        if status is not None:
            self._endings[pid] = f" ({status})"
        await anyio.sleep(_LAST_WORDS_S)
        self.alive.discard(pid)
        self.changed.set()

    async def probe_ended(self, probe: ProbeCollector) -> None:
        """A probe is gone. When it was the last one watching ends, whether its process has ended or not."""
        await anyio.sleep(2 * _LAST_WORDS_S)  # in which the end of the process itself would be noticed
        if self._reconnect and probe.may_come_back and await self._attach_again(self.known[probe.rank_pid], probe):
            return
        self._gone.add(probe.rank_pid)
        last = not self.alive & (set(self.probes) - self._gone)
        if probe.lost is not None and probe.rank_pid in self.alive and last and not self.over:
            self.lost = AttachError(f"process {probe.rank_pid} runs on unwatched: {probe.lost}; attach again")
        self.changed.set()

    async def _attach_again(self, rank: LocalRank, probe: ProbeCollector) -> bool:
        """Whether the rank is watched again. It runs on all the while, so there is no hurry and an end to the trying."""
        for wait_s in _AGAIN_S:
            await anyio.sleep(wait_s)
            if self.over or rank.pid not in self.alive:
                return False
            self._attaching.add(rank.pid)
            await self._attach_one(rank, _PATIENCE_S)
            if self.probes[rank.pid] is not probe:
                return True
        return False

    @property
    def ended(self) -> bool:
        """Whether nothing is left that could make another step, or tell of it."""
        telling = set(self.probes) - self._gone if self.probes else self.alive
        if self.alive & (telling | self._attaching):
            return False
        # A launcher may start ranks anew when all have ended, not when they run on without our probes.
        return bool(self.alive) or not self._launcher_alive

    @property
    def impossible(self) -> bool:
        """Whether no rank has a probe because none can run there, so that the outside view is all there is."""
        problems = self._problems.values()
        return bool(problems) and not self.probes and all(isinstance(found, ProbeImpossible) for found in problems)

    def first_problem(self) -> TorchtopError | None:
        """Why the first rank that could not be attached to could not be, None when all could."""
        return next(iter(self._problems.values()), None)

    async def detach_all(self, took_s: float = wire.SILENCE_S) -> list[int]:
        """Ask every probe to go and wait for their goodbyes; returns the pids of those that have not confirmed."""
        self.over = True
        while self._attaching:
            # An attach under way ends within a moment, or it is let in and asked to go like the others.
            await self.changed.wait()
            self.changed = anyio.Event()
        waiting = [probe for probe in self.probes.values() if not probe.ended]
        for probe in waiting:
            probe.send(wire.DETACH)
        with anyio.move_on_after(took_s):
            while any(not probe.ended for probe in waiting):
                await anyio.sleep(0.005)
        return [probe.rank_pid for probe in waiting if not probe.ended and probe.rank_pid in self.alive]

    # Telling

    def info(self, no_probe: str | None) -> tuple[RankInfo, ...]:
        """What is known of each rank. no_probe: why none was attached to, if none was meant to be."""
        return tuple(self._info(rank, no_probe) for rank in self.known.values())

    def _info(self, rank: LocalRank, no_probe: str | None) -> RankInfo:
        attached = self._attached.get(rank.pid)
        state, reason = "attached", None
        stage: Literal["attaching", "reconnecting", "ended", "replaced"] | None = None
        successor = self._successor(rank)
        if rank.pid not in self.alive:
            state, reason, stage = "lost", f"the process has ended{self._endings.get(rank.pid, '')}", "ended"
            if successor is not None:
                reason, stage = f"{reason}; rank {rank.rank} goes on as process {successor.pid}", "replaced"
        elif attached is None:
            problem = self._problems.get(rank.pid)
            state, reason = "outside", str(problem) if problem is not None else no_probe
            if rank.pid in self._attaching:
                reason, stage = self._waits(rank.pid), "attaching"
        elif self.probes[rank.pid].lost is not None:
            state, reason = "lost", self.probes[rank.pid].lost
            if self._reconnect and self.probes[rank.pid].may_come_back and rank.pid not in self._gone:
                stage = "reconnecting"
        return RankInfo(rank.pid, rank.rank, rank.local_rank, state, reason, attached, stage)

    def _waits(self, pid: int) -> str:
        line = self._waits_in.get(pid)
        return "waits for a Python safe point of its main thread" + (f", which is in {line}" if line else "")

    def _successor(self, rank: LocalRank) -> LocalRank | None:
        later = list(self.known)[list(self.known).index(rank.pid) + 1 :]
        same = [self.known[pid] for pid in later if self.known[pid].rank == rank.rank is not None]
        return same[-1] if same else None


async def _end_of(pid: int) -> str | None:
    """Wait for the end of a process; how it ended, None where that is not told to strangers."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        await anyio.wait_readable(handle)
        return ending.of(pid, handle)
    finally:
        os.close(handle)
