"""One event loop: attach the ranks of a job, run the collectors, keep the window, hand out snapshots, detach.

The only place that knows attach, collectors and window. Signals are taken from the first system call on: a SIGTERM
that killed us while a target's registers are borrowed would kill the target too.
"""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import anyio
from anyio.abc import TaskGroup

from torchtop.attach.job import LocalJob, LocalRank
from torchtop.attach.rendezvous import sweep
from torchtop.closer_look import find_lines, scan_weights
from torchtop.collectors.base import Collector
from torchtop.collectors.gpu import GpuCollector
from torchtop.collectors.host import HostCollector, cpu_model
from torchtop.collectors.machine import MachineCollector
from torchtop.collectors.neighbours import NeighboursCollector
from torchtop.collectors.probe import ProbeCollector
from torchtop.collectors.process import ProcessCollector
from torchtop.collectors.stacks import StacksCollector
from torchtop.errors import AttachError, NothingMeasured, TorchtopError, Unavailable, in_words
from torchtop.judging import Judging
from torchtop.lens import Lens
from torchtop.probe import wire
from torchtop.ranks import Ranks
from torchtop.record import ProbeMessage
from torchtop.report import Context, snapshot
from torchtop.snapshot import CollectorHealth, MonitorHealth, Snapshot
from torchtop.window import Window

_ATTACH_S = 10.0  # s to wait for a safe point at least
_PATIENCE_LIVE_S = 600.0  # s to wait for it where a screen says what is waited for, and any key ends the waiting
_BREATH_S = 0.005  # s after a piece of work of 10 ms or more, in which keys are answered: 8 ranks send theirs at once
_REST_S = 0.1  # s in which what belongs to the marks of a step comes after them: where its modules are called
_STACKS_S = 30.0  # s between two stack dumps: one costs about 60 ms of CPU


class Options(NamedTuple):
    """How to watch."""

    duration_s: float | None
    every_s: float | None = None
    horizon_s: float | None = None
    sample_every: int | None = None
    budget: float | None = None
    no_probe: bool = False
    live: bool = False
    """For a screen: snapshots come from the beginning on, a lost connection is made again, signals are somebody else's."""
    advise: bool = False
    """Take a closer look where a finding asks for it: bursts of stacks, one scan of the weights. A screen does so too."""


class Outcome(NamedTuple):
    """How watching ended."""

    steps: int
    interrupted: bool
    ended: bool
    outside: bool
    compiled: bool = False
    lost: AttachError | None = None
    """Why watching ended early although the target runs on: to be said when all is written."""


Sink = Callable[[Snapshot], Awaitable[bool]]


class Session:
    """Watches one job until its time is up, it ends, the sink has enough, or a signal comes."""

    def __init__(self, job: LocalJob, options: Options, sink: Sink) -> None:
        self._options = options
        self._sink = sink
        self._lens = Lens() if options.live else None
        self._asked = False
        self._began = time.monotonic()
        self._until: float | None = None
        self._cpu_began = time.process_time()
        self._window = Window((rank.pid for rank in job.ranks), self._began)
        self._ranks = Ranks(job, self._welcome, options.live)
        self._collectors: list[Collector] = []
        self._off: dict[str, str] = {}
        self._steps = 0
        self._interrupted = False
        self._cpu_model: str | None = None
        self._emitting = anyio.CancelScope()
        self._turn = anyio.Lock()
        self._judging = Judging(steady=options.live)
        self._tasks: TaskGroup

    async def run(self) -> Outcome:
        """Watch. Raises the first rank's problem when no rank could be attached to, or the sink's when it fails."""
        failed: TorchtopError | None = None
        watched = False
        async with anyio.create_task_group() as self._tasks:
            if self._options.live:
                self._start()
            else:
                await self._tasks.start(self._take_signals)
            if not self._options.no_probe:
                await self._attach()
            watched = not self._interrupted and (
                bool(self._ranks.probes) or self._options.no_probe or self._ranks.impossible
            )
            if watched:
                if not self._options.live:
                    self._start()
                try:
                    await self._until_done()
                except TorchtopError as error:
                    failed = error  # raised below: out of a task group it would come as a group
            await self._detach_all()
        problem = failed or self._ranks.first_problem()
        if problem is not None and (failed is not None or not (watched or self._interrupted)):
            raise problem
        if watched or self._ranks.probes:
            await self._emit()
        return Outcome(
            steps=self._steps,
            interrupted=self._interrupted,
            ended=not self._ranks.alive,
            outside=not self._ranks.probes,
            compiled=any(rank.health.get("compiled") for rank in self._window.ranks.values()),
            lost=self._ranks.lost,
        )

    # Asked for by whoever shows it

    def stop(self) -> None:
        """Detach and come to an end."""
        self._interrupted = True
        self._ranks.over = True
        self._ranks.changed.set()
        self._emitting.cancel()

    def look(self, lens: Lens) -> None:
        """Look at another rank or layer from now on, beginning with a snapshot that does not wait for its time."""
        self._lens = lens
        self._asked = True
        self._ranks.changed.set()

    def set_budget(self, share: float) -> None:
        """Let the probe cost at most `share` (0..1) of step time from now on."""
        self._options = self._options._replace(budget=share)
        for probe in self._ranks.probes.values():
            if not probe.ended:
                probe.send(wire.BUDGET, share=share)

    # Beginning

    async def _take_signals(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            task_status.started()
            async for _ in signals:
                self.stop()

    async def _attach(self) -> None:
        async with anyio.create_task_group() as meanwhile:
            if self._options.live:
                meanwhile.start_soon(self._emit_while_attaching)
            patience = _PATIENCE_LIVE_S if self._options.live else max(_ATTACH_S, self._options.duration_s or 0.0)
            await self._ranks.attach_all(self._tasks, patience)
            meanwhile.cancel_scope.cancel()

    async def _emit_while_attaching(self) -> None:
        while True:
            await self._emit()
            await anyio.sleep(self._options.every_s or 1.0)

    def _welcome(self, rank: LocalRank, probe: ProbeCollector) -> None:
        """A rank is attached: watch it."""
        self._window.add(rank.pid)
        if any(isinstance(known, ProbeCollector) and known.rank_pid == rank.pid for known in self._collectors):
            self._window.replace(rank.pid)
        watched = self._window.ranks[rank.pid]
        watched.attached = watched.attached or time.monotonic()
        if self._options.sample_every is not None:
            probe.send(wire.ARM, every=self._options.sample_every)
        if self._options.budget is not None:
            probe.send(wire.BUDGET, share=self._options.budget)
        self._tasks.start_soon(probe.ping)
        self._run(probe)
        if self._options.live or self._options.advise:
            self._tasks.start_soon(scan_weights, probe, self._options.live)
        pids = tuple(self._ranks.known)
        for collector in self._collectors:
            if isinstance(collector, (ProcessCollector, NeighboursCollector, StacksCollector, MachineCollector)):
                collector.follow(pids)

    def _start(self) -> None:
        self._began = self._window.began = time.monotonic()
        self._cpu_model = cpu_model(Path("/proc"))
        pids = tuple(self._ranks.known)
        stacks = StacksCollector(pids, _STACKS_S, first_delay_s=1.0)
        for collector in (
            HostCollector(1.0),
            ProcessCollector(pids, 1.0),
            NeighboursCollector(pids, self._ranks.job.launcher),
            GpuCollector(1.0),
            stacks,
            MachineCollector(pids),
        ):
            self._run(collector)
        self._ranks.watch_ends(self._tasks)
        if self._options.live or self._options.advise:
            self._tasks.start_soon(self._look_closer, stacks)

    def _run(self, collector: Collector) -> None:
        self._collectors.append(collector)
        self._tasks.start_soon(self._pump, collector)

    # Watching

    async def _pump(self, collector: Collector) -> None:
        """Move readings into the window. What breaks a collector takes down only that collector."""
        try:
            await collector.open()
            async for sample in collector.samples():
                if isinstance(sample, ProbeMessage) and sample.type == wire.WEIGHTS:
                    await self._take_in_turn(sample)
                elif isinstance(sample, ProbeMessage) and sample.type == wire.LAYERS and "times" in sample.body:
                    await self._take_in_turn(sample)
                    if self._options.live and len(self._window.ranks[sample.rank_pid].armed) == 1:
                        self._tasks.start_soon(self._show_first_layers)
                else:
                    self._window.take(sample)
        except Unavailable as absent:
            self._off[collector.name] = str(absent)
        except TorchtopError as problem:
            self._off[collector.name] = str(problem)
            await collector.close()
        except Exception as bug:  # noqa: BLE001  # a source that breaks must not end the watching of the others
            self._off[collector.name] = in_words(bug)
            await collector.close()
        if isinstance(collector, ProbeCollector):
            await collector.close()
            await self._ranks.probe_ended(collector)

    async def _look_closer(self, stacks: StacksCollector) -> None:
        """Find the lines that findings lack. What breaks here takes down only that."""
        look = None if self._options.live else self._look_in_turn
        try:
            await find_lines(self._judging.wanted, stacks, self._window.take, look)
        except Exception as bug:  # noqa: BLE001  # as for a source
            self._off[stacks.name] = in_words(bug)

    async def _take_in_turn(self, message: ProbeMessage) -> None:
        """Take in what costs 10 ms or more."""
        async with self._turn:
            self._window.take(message)
            await self._breathe()

    async def _look_in_turn(self) -> Snapshot:
        async with self._turn:
            seen = self._look()
            await self._breathe()
        return seen

    async def _breathe(self) -> None:
        """Let keys be answered. Without a screen nobody waits, and every step may be an armed one."""
        if self._options.live:
            await anyio.sleep(_BREATH_S)

    async def _show_first_layers(self) -> None:
        """Layers are there for the first time: a snapshot that does not wait for its time."""
        await anyio.sleep(_REST_S)
        self._asked = True
        self._ranks.changed.set()

    async def _until_done(self) -> None:
        every, duration = self._options.every_s, self._options.duration_s
        deadline = self._began + duration if duration is not None else None
        due = self._began + every if every is not None else None
        while not (self._interrupted or self._ranks.ended):
            moments = [moment for moment in (deadline, due, 0.0 if self._asked else None) if moment is not None]
            with anyio.move_on_after(max(min(moments) - time.monotonic(), 0.0) if moments else None):
                await self._ranks.changed.wait()
                self._ranks.changed = anyio.Event()
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return
            if self._asked:
                self._asked, due = False, due and now
            if due is not None and every is not None and now >= due and not self._interrupted:
                more = True
                # Whoever reads our output may take his time: not beyond a signal or the end of ours.
                self._emitting = anyio.move_on_after(None if deadline is None else deadline - now)
                with self._emitting:
                    more = await self._emit()
                if not more:
                    return
                due = max(due + every, now)

    async def _emit(self) -> bool:
        """Hand a snapshot to the sink; False when it wants no more."""
        if self._options.horizon_s is not None:
            self._window.forget_before(self._now() - self._options.horizon_s)
        seen = await self._look_in_turn()
        self._steps = max(self._steps, seen.steps.count or 0)
        return await self._sink(seen)

    def _look(self) -> Snapshot:
        """Describe and judge the window as it is now."""
        now = self._now()
        for pid in self._ranks.known:
            self._window.add(pid)
        taken = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        context = self._context()
        seen = snapshot(self._window, context, taken, now - self._window.began, self._lens)
        return self._judging.advise(self._window, context, seen, now)

    def _now(self) -> float:
        """The end of the window: nothing is seen while it is detached, which may take seconds."""
        return time.monotonic() if self._until is None else self._until

    # Ending

    async def _detach_all(self) -> None:
        """Ask every probe to go, wait for what it had to leave behind, then stop the collectors."""
        self._until = time.monotonic()
        for pid in await self._ranks.detach_all():
            self._window.ranks[pid].bye = {"left_behind": [f"process {pid} has not confirmed that the probe is gone"]}
        self._tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            for collector in self._collectors:
                with suppress(TorchtopError):
                    await collector.close()
        if self._ranks.alive != set(self._ranks.known):
            sweep(self._ranks.folders)

    def _context(self) -> Context:
        return Context(
            job_id=self._ranks.job.id,
            command=self._ranks.job.command,
            world_size=self._ranks.job.world_size,
            ranks=self._ranks.info(
                "nothing was put into it, as asked (--no-probe)" if self._options.no_probe else None
            ),
            collectors=tuple(self._health_rows()),
            monitor=MonitorHealth(
                cpu_share=(time.process_time() - self._cpu_began) / max(time.monotonic() - self._began, 1e-3),
                rss_bytes=int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize(),
                late_ticks=sum(collector.meter.late for collector in self._collectors),
                dropped=0,
            ),
            cpu_model=self._cpu_model,
            ranks_left_out=self._ranks.job.not_asked_for,
        )

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

    async def run() -> Outcome:
        return await Session(job, options, sink).run()

    return anyio.run(run)


def nothing_measured(job: LocalJob, outcome: Outcome) -> NothingMeasured | None:
    """What to say when not one complete step was seen; None when there was one."""
    if outcome.steps or outcome.interrupted or outcome.outside:
        return None
    if outcome.compiled:
        return NothingMeasured(
            f"no step of process {job.ranks[0].pid} was seen: its model is compiled, and without an optimizer the calls of "
            "one that was compiled in place (model.compile()) cannot be seen; devices, host and stacks: --no-probe"
        )
    return NothingMeasured(
        f"no complete step of process {job.ranks[0].pid} was seen in time: give it longer with --for, or see in "
        "`stacks` of the snapshot what it waits in"
    )
