"""Which processes TARGET means: a PID, PID:RANK, or a unique part of a command line, and all local ranks of its job."""

from __future__ import annotations

import os
from typing import NamedTuple

from torchtop.attach import proc
from torchtop.attach.permission import check_state, permission_sentence
from torchtop.errors import AttachError, NoTarget, UsageError

_DISABLE = "TORCHTOP_DISABLE"
_HIGHEST = 6  # processes between a DataLoader worker and its rank at most


class LocalRank(NamedTuple):
    """One process of a job on this machine."""

    pid: int
    rank: int | None
    local_rank: int | None


class LocalJob(NamedTuple):
    """A job as it is found on this machine, before anything is attached."""

    id: str
    command: str
    world_size: int | None
    ranks: tuple[LocalRank, ...]


def find(target: str) -> LocalJob:
    """Resolve TARGET. Raises `NoTarget`, `UsageError` (not unique) or `AttachError` (may not be looked at)."""
    if not target:
        raise UsageError("TARGET is empty: give a PID, PID:RANK or a part of the command line")
    text, _, wanted = target.partition(":") if target.partition(":")[0].isdigit() else (target, "", "")
    pid = int(text) if text.isdigit() else _by_command(text)
    check_state(pid)
    try:
        job = _job_of(pid)
    except PermissionError as error:
        raise AttachError(permission_sentence(pid, error)) from None
    except (FileNotFoundError, ProcessLookupError):
        raise NoTarget(f"process {pid} ended while it was being looked at") from None
    if wanted:
        chosen = tuple(rank for rank in job.ranks if str(rank.rank) == wanted)
        if not chosen:
            known = ", ".join(str(rank.rank) for rank in job.ranks if rank.rank is not None) or "none that it names"
            raise UsageError(f"the job of process {pid} has no rank {wanted} on this machine; its ranks: {known}")
        job = job._replace(ranks=chosen)
    return job


def _by_command(part: str) -> int:
    """The one PyTorch process whose command line holds `part`; ranks of one job count as one."""
    found: dict[int, str] = {}
    for entry in proc.PROC.iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = " ".join(proc.command_line(int(entry.name)))
                if part in command and _has_torch(int(entry.name)):
                    found[int(entry.name)] = command
            except OSError:
                continue
    pids = sorted({_rank_above(pid) for pid in found})
    jobs = {_job_of(pid).ranks: pid for pid in pids}
    if not jobs:
        raise NoTarget(f"no PyTorch process has {part!r} in its command line: `pgrep -af python` lists candidates")
    if len(jobs) > 1:
        listed = ", ".join(str(pid) for pid in jobs.values())
        raise UsageError(
            f"{part!r} is in the command line of several jobs (processes {listed}): give one of these PIDs"
        )
    return next(iter(jobs.values()))


def _has_torch(pid: int) -> bool:
    """Whether PyTorch is loaded: a libtorch in the memory map."""
    return any("/libtorch" in mapping.path for mapping in proc.mappings(pid))


def _rank_above(pid: int) -> int:
    """The process that a forked DataLoader worker belongs to; `pid` itself for anything else."""
    for _ in range(_HIGHEST):
        parent = proc.status(pid).ppid
        if parent <= 1 or proc.command_line(parent) != proc.command_line(pid) or not _has_torch(parent):
            return pid
        pid = parent
    return pid


def _job_of(pid: int) -> LocalJob:
    pid = _rank_above(pid)
    environment = proc.environment(pid)
    if "RANK" not in environment:
        ranks = _ranks_below(pid)
        if ranks:
            return _job(ranks, pid)
    if not _has_torch(pid):
        raise NoTarget(_not_torch(pid))
    if "RANK" not in environment:
        return _job({pid: environment}, pid)
    parent = proc.status(pid).ppid
    together = {
        sibling: found
        for sibling, found in _ranks_below(parent).items()
        if found.get("MASTER_PORT") == environment.get("MASTER_PORT")
    }
    return _job(together or {pid: environment}, pid)


def _ranks_below(pid: int) -> dict[int, dict[str, str]]:
    """Children of a launcher that carry a RANK and have torch loaded, without workers of theirs."""
    found = {}
    for child in proc.children(pid):
        try:
            environment = proc.environment(child)
            if "RANK" in environment and _has_torch(child):
                found[child] = environment
        except OSError:
            continue
    return found


def _job(processes: dict[int, dict[str, str]], named: int) -> LocalJob:
    for pid, environment in processes.items():
        if environment.get(_DISABLE) == "1":
            raise AttachError(
                f"process {pid} was started with {_DISABLE}=1 and must not be attached to: "
                "start it without that variable next time"
            )
    ranks = [
        LocalRank(pid, _number(environment.get("RANK")), _number(environment.get("LOCAL_RANK")))
        for pid, environment in processes.items()
    ]
    ranks.sort(key=lambda rank: (rank.rank is None, rank.rank, rank.pid))
    first = ranks[0].pid
    world = _number(processes[first].get("WORLD_SIZE"))
    return LocalJob(
        id=f"{first}-{proc.start_ticks(first)}",
        command=" ".join(proc.command_line(named)),
        world_size=world if world is not None else 1,
        ranks=tuple(ranks),
    )


def _not_torch(pid: int) -> str:
    name = os.path.basename(os.readlink(proc.PROC / str(pid) / "exe"))
    if "python" in name:
        return f"process {pid} is Python, but has not loaded PyTorch: `pgrep -af python` lists candidates"
    return f"process {pid} ({name}) is not a Python process: `pgrep -af python` lists candidates"


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None
