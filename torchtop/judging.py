"""The advisor at work on a session's window: what is found, what to show of it, and whose lines are still wanted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from torchtop.advisor.engine import Verdict, judge
from torchtop.advisor.lines import NONE_YET
from torchtop.advisor.registry import RULES
from torchtop.advisor.steady import Steady
from torchtop.collectors.base import Meter
from torchtop.errors import in_words
from torchtop.frozen import freeze
from torchtop.report import Context, current
from torchtop.seen import RankSeen, Seen
from torchtop.snapshot import Abstention, CollectorHealth, Finding, Snapshot
from torchtop.window import Window

_LINES = {rule.CODE: rule.LINE for rule in RULES if hasattr(rule, "LINE")}
_SAMPLED = frozenset(_LINES.values()) | {"other"}
_BURST_S = 3.0  # s of stacks of a training thread: 60 samples
_WORKER_S = 1.0  # s of stacks of one loader worker: what all of them do is compared, one after the other
_WORKERS = 8  # workers of one rank that are compared


class Wanted(NamedTuple):
    """A thread whose stacks would tell a line. tid: kernel id as the target sees it, None: the main thread."""

    pid: int
    tid: int | None
    seconds: float
    rank_pid: int

    @property
    def kind(self) -> tuple[int, bool]:
        """Its rank, and whether it is one of its loader workers."""
        return self.rank_pid, self.pid != self.rank_pid


class Judging:
    """steady: for a screen, on which findings must not flicker."""

    def __init__(self, steady: bool) -> None:
        self._steady = Steady() if steady else None
        self._last: tuple[Seen, Verdict] | None = None
        self._meter = Meter()

    def advise(self, window: Window, context: Context, snapshot: Snapshot, now: float) -> Snapshot:
        """The snapshot with what holds the job back, and what could not be judged. What breaks here ends nothing else."""
        began = time.monotonic()
        try:
            verdict = self._judge(window, context, snapshot, now)
            reason = None
        except Exception as bug:  # noqa: BLE001  # as for a source
            reason = in_words(bug)
            verdict = Verdict((), tuple(Abstention(code=rule.CODE, reason=reason) for rule in RULES))
            self._last = None
            self._meter.failures += 1
        self._meter.reads += 1
        self._meter.total_s += time.monotonic() - began
        row = CollectorHealth(
            name="advisor",
            state="off" if reason else "on",
            reason=reason,
            failures=self._meter.failures,
            mean_s=self._meter.mean_s,
        )
        health = replace(snapshot.health, collectors=(*snapshot.health.collectors, row))
        return replace(snapshot, findings=verdict.findings, abstained=verdict.abstained, health=health)

    def _judge(self, window: Window, context: Context, snapshot: Snapshot, now: float) -> Verdict:
        seen = freeze(
            window,
            [(info.pid, info.rank) for info in current(context.ranks)],
            snapshot.window_s,
            now,
            world_size=context.world_size,
            mode=snapshot.job.mode,
            slowest_pid=snapshot.steps.pid,
            devices_reason=next((row.reason for row in context.collectors if row.name == "gpu"), None),
        )
        verdict = judge(seen)
        self._last = seen, verdict
        return verdict if self._steady is None else self._steady.settle(verdict)

    def wanted(self) -> tuple[Wanted, ...]:
        """Threads to look at, for the findings of the last look."""
        if self._last is None:
            return ()
        seen, verdict = self._last
        threads = [thread for finding in verdict.findings for thread in _threads(seen, finding)]
        if seen.slow is not None and any(one.reason == NONE_YET and one.code in _LINES for one in verdict.abstained):
            threads.append(_trainer(seen.slow))
        return tuple(dict.fromkeys(threads))


def _threads(seen: Seen, finding: Finding) -> Sequence[Wanted]:
    rank = next((rank for rank in seen.ranks if rank.pid == finding.where.get("pid")), seen.slow)
    if rank is None or finding.code not in _LINES:
        return ()
    # A straggler's phase is named in its finding; in some there is no line to look for.
    phase = finding.where["phase"] if "phase" in finding.where else _LINES[finding.code]
    if phase not in _SAMPLED:
        return ()
    if phase == "data" and rank.workers:
        # All of them, not only until the line is known: which one holds the others up shows in their stacks alone.
        sampled = {stacks.pid for stacks in rank.stacks}
        busiest = sorted(rank.workers, key=lambda pid: -(rank.workers[pid][-1].cpu_share or 0.0))[:_WORKERS]
        seconds = _BURST_S if len(busiest) == 1 else _WORKER_S
        return [Wanted(pid, None, seconds, rank.pid) for pid in busiest if pid not in sampled]
    return () if "line" in finding.where else (_trainer(rank),)


def _trainer(rank: RankSeen) -> Wanted:
    return Wanted(rank.pid, rank.facts.training_tid, _BURST_S, rank.pid)
