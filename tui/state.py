"""What the job and the watching of it are up to, in one word and one sentence. Never silent about what is missing."""

from __future__ import annotations

from typing import NamedTuple

from torchtop.snapshot import Job, Rank, Snapshot
from torchtop.tui.view import rank_name

STOPPED = ("T", "t")


class State(NamedTuple):
    """word: what it is; text: what follows from it, '' if nothing; kind: of text, as in themes.py."""

    word: str
    text: str
    kind: str


def state(snapshot: Snapshot) -> State:
    """Of the job as a whole: the worst that holds for all of its ranks."""
    ranks = [rank for rank in snapshot.job.ranks if rank.stage != "replaced"]
    if ranks and all(rank.stage == "ended" for rank in ranks):
        return State("ended", _one(ranks), "warn")
    running = [rank for rank in ranks if rank.stage != "ended"]
    if running and all((rank.process_state or "") in STOPPED for rank in running):
        return State("stopped", "by a signal (SIGSTOP): kill -CONT lets it go on; the picture waits for that", "warn")
    attached = [rank for rank in running if rank.state == "attached"]
    if attached:
        if snapshot.steps.compiled:
            return State("compiled", "steps and memory only: modules inside cannot be timed without changing them", "")
        return State("attached", _methods(attached), "good")
    for stage in ("reconnecting", "attaching"):
        busy = [rank for rank in running if rank.stage == stage]
        if busy:
            return State(stage, _one(busy), "warn")
    return State("outside", _one(running), "warn")


def remarks(snapshot: Snapshot) -> list[str]:
    """What else must be known to read the numbers right."""
    found = []
    away = elsewhere(snapshot.job)
    if away:
        found.append(away)
    lost = [rank for rank in snapshot.job.ranks if rank.state != "attached" and rank.stage != "replaced"]
    if any(rank.state == "attached" for rank in snapshot.job.ranks) and lost:
        found.append(f"{rank_name(lost[0])} {lost[0].state}" + (f" and {len(lost) - 1} more" if len(lost) > 1 else ""))
    probe = snapshot.health.probe
    if probe is not None and probe.dropped:
        found.append(f"{probe.dropped} dropped")
    if probe is not None and probe.errors:
        found.append(f"{probe.errors} probe errors")
    if probe is not None and probe.left_behind:
        found.append(f"left behind: {'; '.join(probe.left_behind)}")
    if snapshot.health.monitor.dropped:
        found.append(f"{snapshot.health.monitor.dropped} readings dropped")
    return found


def elsewhere(job: Job) -> str | None:
    """How many of its ranks are on other machines; None where none is, or nobody says."""
    here = len({rank.rank if rank.rank is not None else rank.pid for rank in job.ranks}) + job.ranks_left_out
    away = (job.world_size or 0) - here
    return f"this node only: {away} rank{'s' * (away > 1)} elsewhere" if away > 0 else None


def stopped(snapshot: Snapshot) -> bool:
    """Whether every process of the job is stopped, so that nothing can change."""
    return state(snapshot).word == "stopped"


def _one(ranks: list[Rank]) -> str:
    reasons = {rank.reason for rank in ranks if rank.reason}
    text = next(iter(reasons), "")
    return text if len(reasons) <= 1 else f"{text}; see the ranks for the others"


def _methods(ranks: list[Rank]) -> str:
    return ", ".join(sorted({rank.attach.method for rank in ranks if rank.attach is not None}))
