"""One event loop: attach the ranks of a job, run the collectors, keep the window, hand out snapshots, detach.

The only place that knows attach, collectors and window. Signals are taken from the first system call on: a SIGTERM
that killed us while a target's registers are borrowed would kill the target too.
"""

from __future__ import annotations

import os
import resource
import signal
import time
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import anyio
from anyio.abc import TaskGroup

from torchtop.attach.connect import Connection, attach
from torchtop.attach.job import LocalJob, LocalRank
from torchtop.attach.rendezvous import sweep
from torchtop.collectors.base import Collector
from torchtop.collectors.gpu import GpuCollector
from torchtop.collectors.host import HostCollector, cpu_model
from torchtop.collectors.probe import ProbeCollector
from torchtop.collectors.process import ProcessCollector
from torchtop.collectors.stacks import StacksCollector
from torchtop.errors import NothingMeasured, TorchtopError, Unavailable
from torchtop.probe import wire
from torchtop.report import Context, RankInfo, snapshot
from torchtop.snapshot import Attach, CollectorHealth, MonitorHealth, Snapshot
from torchtop.window import Window

_ATTACH_S = 10.0  # s to wait for a safe point at least
_STACKS_S = 30.0  # s between two stack dumps: one costs about 60 ms of CPU


class Options(NamedTuple):
    """How to watch."""

    duration_s: float | None
    every_s: float | None = None
    horizon_s: float | None = None
    sample_every: int | None = None
    budget: float | None = None


class Outcome(NamedTuple):
    """How watching ended."""

    steps: int
    interrupted: bool
    ended: bool


Sink = Callable[[Snapshot], Awaitable[bool]]


class Session:
    """Watches one job until its time is up, it ends, the sink has enough, or a signal comes."""

    def __init__(self, job: LocalJob, options: Options, sink: Sink) -> None:
        self._job = job
        self._options = options
        self._sink = sink
        self._began = time.monotonic()
        self._cpu_began = time.process_time()
        self._window = Window((rank.pid for rank in job.ranks), self._began)
        self._probes: dict[int, ProbeCollector] = {}
        self._attached: dict[int, Attach] = {}
        self._problems: dict[int, TorchtopError] = {}
        self._alive = {rank.pid for rank in job.ranks}
        self._collectors: list[Collector] = []
        self._off: dict[str, str] = {}
        self._folders: set[str] = set()
        self._steps = 0
        self._interrupted = False
        self._cpu_model: str | None = None
        self._done = anyio.Event()

    async def run(self) -> Outcome:
        """Watch. Raises the first rank's problem when no rank could be attached to, or the sink's when it fails."""
        failed: TorchtopError | None = None
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._take_signals)
            await self._attach_all()
            if not self._probes or self._interrupted:
                tasks.cancel_scope.cancel()
            else:
                self._start(tasks)
                try:
                    await self._until_done()
                except TorchtopError as problem:
                    failed = problem  # raised below: out of a task group it would come as a group
                await self._detach_all(tasks)
        if failed is not None:
            raise failed
        if not self._probes and self._problems and not self._interrupted:
            raise next(iter(self._problems.values()))
        if self._probes:
            await self._emit()
        return Outcome(self._steps, self._interrupted, not self._alive)

    # Beginning

    async def _take_signals(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            task_status.started()
            async for _ in signals:
                self._interrupted = True
                self._done.set()

    async def _attach_all(self) -> None:
        """All ranks at once; one that refuses does not lose the others."""
        async with anyio.create_task_group() as tasks:
            for rank in self._job.ranks:
                tasks.start_soon(self._attach_one, rank)

    async def _attach_one(self, rank: LocalRank) -> None:
        patience = max(_ATTACH_S, self._options.duration_s or 0.0)
        try:
            connection: Connection = await anyio.to_thread.run_sync(
                attach, rank.pid, patience, lambda: self._interrupted
            )
        except TorchtopError as problem:
            self._problems[rank.pid] = problem
            return
        self._attached[rank.pid] = Attach(
            method=connection.method, hello_s=connection.hello_s, pause_s=connection.pause_s
        )
        self._probes[rank.pid] = ProbeCollector(rank.pid, connection.channel.socket)
        self._folders |= set(connection.folders)

    def _start(self, tasks: TaskGroup) -> None:
        self._began = self._window.began = time.monotonic()
        self._cpu_model = cpu_model(Path("/proc"))
        pids = tuple(rank.pid for rank in self._job.ranks)
        self._collectors = [
            *self._probes.values(),
            HostCollector(1.0),
            ProcessCollector(pids, 1.0),
            GpuCollector(1.0),
            StacksCollector(pids, _STACKS_S, first_delay_s=1.0),
        ]
        for probe in self._probes.values():
            if self._options.sample_every is not None:
                probe.send(wire.ARM, every=self._options.sample_every)
            if self._options.budget is not None:
                probe.send(wire.BUDGET, share=self._options.budget)
            tasks.start_soon(probe.ping)
        for collector in self._collectors:
            tasks.start_soon(self._pump, collector)
        for pid in pids:
            tasks.start_soon(self._await_end, pid)

    # Watching

    async def _pump(self, collector: Collector) -> None:
        """Move readings into the window. What breaks a collector takes down only that collector."""
        try:
            await collector.open()
            async for sample in collector.samples():
                self._window.take(sample)
        except Unavailable as absent:
            self._off[collector.name] = str(absent)
        except TorchtopError as problem:
            self._off[collector.name] = str(problem)
            await collector.close()
        except Exception as bug:  # noqa: BLE001  # a source that breaks must not end the watching of the others
            where = traceback.extract_tb(bug.__traceback__)[-1]
            self._off[collector.name] = f"a bug in torchtop: {bug!r} at {Path(where.filename).name}:{where.lineno}"
            await collector.close()

    async def _await_end(self, pid: int) -> None:
        """Notice the end of a rank by its pidfd: the socket may be held open by its forked workers."""
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            self._rank_ended(pid)
            return
        try:
            await anyio.wait_readable(handle)
        finally:
            os.close(handle)
        # What the probe sent last is still on its way.
        await anyio.sleep(0.2)
        self._rank_ended(pid)

    def _rank_ended(self, pid: int) -> None:
        self._alive.discard(pid)
        if not self._alive & set(self._probes):
            self._done.set()

    async def _until_done(self) -> None:
        every, duration = self._options.every_s, self._options.duration_s
        deadline = self._began + duration if duration is not None else None
        due = self._began + every if every is not None else None
        while not self._done.is_set():
            moments = [moment for moment in (deadline, due) if moment is not None]
            with anyio.move_on_after(max(min(moments) - time.monotonic(), 0.0) if moments else None):
                await self._done.wait()
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return
            if due is not None and every is not None and now >= due and not self._done.is_set():
                if not await self._emit():
                    return
                due = max(due + every, now)

    async def _emit(self) -> bool:
        """Hand a snapshot to the sink; False when it wants no more."""
        now = time.monotonic()
        if self._options.horizon_s is not None:
            self._window.forget_before(now - self._options.horizon_s)
        taken = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        seen = snapshot(self._window, self._context(), taken, min(now, self._until or now) - self._window.began)
        self._steps = max(self._steps, seen.steps.count or 0)
        return await self._sink(seen)

    _until: float | None = None

    # Ending

    async def _detach_all(self, tasks: TaskGroup) -> None:
        """Ask every probe to go, wait for what it had to leave behind, then stop the collectors."""
        self._until = time.monotonic()
        waiting = [probe for probe in self._probes.values() if not probe.ended]
        for probe in waiting:
            probe.send(wire.DETACH)
        with anyio.move_on_after(wire.SILENCE_S):
            while any(not probe.ended for probe in waiting):
                await anyio.sleep(0.005)
        for probe in waiting:
            rank = self._window.ranks[probe.rank_pid]
            if rank.bye is None and probe.rank_pid in self._alive:
                rank.bye = {"left_behind": [f"process {probe.rank_pid} has not confirmed that the probe is gone"]}
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            for collector in self._collectors:
                with suppress(TorchtopError):
                    await collector.close()
        if self._alive != {rank.pid for rank in self._job.ranks}:
            sweep(self._folders)

    def _context(self) -> Context:
        return Context(
            job_id=self._job.id,
            command=self._job.command,
            world_size=self._job.world_size,
            ranks=tuple(self._rank_info(rank) for rank in self._job.ranks),
            collectors=tuple(self._health_rows()),
            monitor=MonitorHealth(
                cpu_share=(time.process_time() - self._cpu_began) / max(time.monotonic() - self._began, 1e-3),
                rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                late_ticks=sum(collector.meter.late for collector in self._collectors),
                dropped=0,
            ),
            cpu_model=self._cpu_model,
        )

    def _rank_info(self, rank: LocalRank) -> RankInfo:
        problem = self._problems.get(rank.pid)
        if problem is not None:
            return RankInfo(rank.pid, rank.rank, rank.local_rank, "outside", str(problem), None)
        state, reason = "attached", None
        if rank.pid not in self._alive:
            state, reason = "lost", "the process has ended"
        elif self._probes[rank.pid].ended and self._until is None:
            state, reason = "lost", "the probe stopped answering"
        bye = self._window.ranks[rank.pid].bye
        if bye is not None and bye.get("error"):
            state, reason = "lost", f"the probe could not start: {bye['error']}"
        return RankInfo(rank.pid, rank.rank, rank.local_rank, state, reason, self._attached[rank.pid])

    def _health_rows(self) -> list[CollectorHealth]:
        rows: dict[str, CollectorHealth] = {}
        for collector in self._collectors:
            off = self._off.get(collector.name)
            meter = collector.meter
            known = rows.get(collector.name)
            rows[collector.name] = CollectorHealth(
                name=collector.name,
                state="off" if off else "on",
                reason=off or meter.reason or (known.reason if known else None),
                failures=meter.failures + (known.failures if known else 0),
                mean_s=meter.mean_s,
            )
        return list(rows.values())


def watch(job: LocalJob, options: Options, sink: Sink) -> Outcome:
    """Run a session to its end in an event loop of its own."""
    return anyio.run(Session(job, options, sink).run)


def nothing_measured(job: LocalJob, outcome: Outcome) -> NothingMeasured | None:
    """What to say when not one complete step was seen; None when there was one."""
    if outcome.steps or outcome.interrupted:
        return None
    return NothingMeasured(
        f"no complete step of process {job.ranks[0].pid} was seen in time: give it longer with --for, or see in "
        "`stacks` of the snapshot what it waits in"
    )
