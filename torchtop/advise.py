"""`torchtop advise`: watch for a while, and say what holds the job back."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator

from torchtop.advisor.judgement import RANK
from torchtop.attach.job import LocalJob, find
from torchtop.json_writer import JsonWriter
from torchtop.rulebook import Rulebook, columns
from torchtop.session import Options, nothing_measured, watch
from torchtop.snapshot import Snapshot
from torchtop.tui.place import places
from torchtop.tui.state import remarks, state
from torchtop.tui.text.findings import in_full, not_judged, waiting
from torchtop.tui.text.plain import command_line, wrapped
from torchtop.tui.text.units import duration

_FOUND = 1  # exit code where there is something as bad as was asked for


def advise(target: str, duration_s: float, as_json: bool, fail_on: str | None) -> int:
    """Watch TARGET, print what was found, and return the exit code. Raises `TorchtopError`.

    fail_on: severity of a finding from which on the exit code is 1.
    """
    job = find(target)
    writer = JsonWriter(None, lines=False) if as_json else _TextWriter()
    kept = _Kept(writer)
    _say(f"watching {_processes(job)} for {duration_s:g} s")
    outcome = watch(job, Options(duration_s=duration_s, advise=True), kept.take)
    writer.finish()
    if outcome.interrupted:
        return 130
    problem = outcome.lost or nothing_measured(job, outcome)
    if problem is not None:
        raise problem
    return _FOUND if fail_on is not None and kept.has(fail_on) else 0


def page(snapshot: Snapshot, width: int, rules: int) -> Iterator[str]:
    """The snapshot's findings as text of `width` columns. rules: how many there are in all."""
    yield from _watched(snapshot, width)
    for finding in snapshot.findings:
        yield ""
        yield from (line.text for line in in_full(finding, width))
    if not snapshot.findings:
        yield ""
        yield from wrapped("", _nothing(snapshot, rules), width)
    if snapshot.abstained:
        yield ""
        yield f"not judged: {len(snapshot.abstained)} of {rules} rules"
        yield from not_judged(snapshot.abstained, width)


def _nothing(snapshot: Snapshot, rules: int) -> str:
    """What it means that there is no finding."""
    judged, early = rules - len(snapshot.abstained), waiting(snapshot.abstained)
    if judged <= 0 or not snapshot.steps.count:
        return "nothing was found, but hardly anything could be judged"
    if early is not None:
        few = f"{early.seen} of the {early.needed} steps that {early.rules} rules wait for were seen"
        return f"nothing found yet: {few}; give it longer with --for"
    return f"nothing found: {judged} of {rules} rules have judged this job, and all is well"


def _watched(snapshot: Snapshot, width: int) -> Iterator[str]:
    """What was looked at, for how long, and what stood in the way."""
    job, steps = snapshot.job, snapshot.steps
    ranks = ", ".join(f"{rank.pid}" if rank.rank is None else f"{rank.pid} (rank {rank.rank})" for rank in job.ranks)
    yield from wrapped("", command_line(job.command), width)
    mode = f"{job.mode}, " if job.mode is not None else ""
    yield from wrapped("", f"{mode}process{'es' * (len(job.ranks) > 1)} {ranks}", width)
    seen = "no step was seen"
    if steps.count:
        mean = f", {duration(steps.mean_s)} each" if steps.mean_s is not None else ""
        seen = f"{steps.count} step{'s' * (steps.count > 1)}{mean}"
    yield from wrapped("", f"watched for {duration(snapshot.window_s)}: {seen}", width)
    now = state(snapshot)
    if now.word != "attached":
        yield from wrapped("", f"{now.word}: {now.text}" if now.text else now.word, width)
    for remark in remarks(snapshot):
        yield from wrapped("", remark, width)
    if not steps.count:
        for rank in job.ranks:
            spot = next(places(snapshot, rank.pid), None)
            if spot is not None:
                yield from wrapped("", f"process {rank.pid} was in {spot}", width)


class _Kept:
    """A sink before another one: remembers what the last snapshot found."""

    def __init__(self, writer: JsonWriter | _TextWriter) -> None:
        self._writer = writer
        self._worst: int | None = None

    async def take(self, snapshot: Snapshot) -> bool:
        """The session's sink."""
        self._worst = min((RANK[finding.severity] for finding in snapshot.findings), default=None)
        return await self._writer.take(snapshot)

    def has(self, severity: str) -> bool:
        """Whether something as bad as that was found."""
        return self._worst is not None and self._worst <= RANK[severity]


class _TextWriter:
    """Prints the last snapshot."""

    def __init__(self) -> None:
        self._last: Snapshot | None = None

    async def take(self, snapshot: Snapshot) -> bool:
        """The session's sink."""
        self._last = snapshot
        return True

    def finish(self) -> None:
        """Print what is due at the end."""
        if self._last is None or sys.stdout is None:
            return
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # the job's names may have letters that this terminal has not
        try:
            print("\n".join(page(self._last, columns(), len(Rulebook()))), flush=True)
        except BrokenPipeError:
            # The reader has gone (`| head`): enough, for him. Python would try again at exit, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _processes(job: LocalJob) -> str:
    pids = ", ".join(str(rank.pid) for rank in job.ranks)
    return f"process{'es' * (len(job.ranks) > 1)} {pids}"


def _say(text: str) -> None:
    """Narration: stdout is for what was found."""
    print(text, file=sys.stderr, flush=True)
