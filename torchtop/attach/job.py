"""Which processes TARGET means: a PID, PID:RANK, or a unique part of a command line, and all local ranks of its job."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from typing import NamedTuple

from torchtop.attach import census, torch_files
from torchtop.attach.blockers import disabled, what_it_is
from torchtop.attach.census import Census, Look, Process, Use
from torchtop.attach.check import CANDIDATES, NO_TARGET, Check, refuse
from torchtop.attach.family import WORKS, Families, Family, Member
from torchtop.attach.inject import check_settled
from torchtop.attach.permission import denied
from torchtop.attach.role import is_launcher
from torchtop.errors import NoTarget, UsageError

_STARTING_S = 5.0  # s to wait for ranks that are just loading torch, while others of the job have it
_STARTING_POLL_S = 0.2


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
    launcher: int | None = None
    """Process that started the ranks and does not train itself."""
    key: tuple[object, ...] = ()
    """What stays the same when a launcher restarts its ranks."""
    only: int | None = None
    """The rank that was asked for, where it was one."""
    not_asked_for: int = 0
    """Ranks on this machine that were left out for that."""


def find(target: str, rank: int | None = None) -> LocalJob:
    """Resolve TARGET; rank: only this one of its ranks, as PID:RANK says it, too.

    Raises `NoTarget`, `UsageError` (not unique) or `AttachError` (may not be looked at).
    """
    if not target:
        raise UsageError("TARGET is empty: give a PID, PID:RANK or a part of the command line")
    text, _, wanted = target.partition(":") if target.partition(":")[0].isdigit() else (target, "", "")
    if text.isdigit():
        check_settled(int(text))
    job, family = _settled(text)
    refuse(*(disabled(rank.process.pid, rank.process.environment) for rank in family.ranks))
    wanted = wanted if rank is None else str(rank)
    if wanted:
        chosen = tuple(rank for rank in job.ranks if str(rank.rank) == wanted)
        if not chosen:
            known = ", ".join(str(rank.rank) for rank in job.ranks if rank.rank is not None) or "none that it names"
            whose = f"the job of process {text}" if text.isdigit() else f"the job {text!r}"
            raise UsageError(f"{whose} has no rank {wanted} on this machine; its ranks: {known}")
        job = job._replace(ranks=chosen, only=chosen[0].rank, not_asked_for=len(job.ranks) - len(chosen))
    return job


def ranks_now(job: LocalJob) -> tuple[LocalRank, ...]:
    """The ranks that `job` has at this moment: after a restart by its launcher, other processes than before.

    Only the one that was asked for, where it was one. Empty when there are none now, be it that the job has ended or
    that new ranks are still loading PyTorch. Costs 1 ms for each rank where there is a launcher, else a census.
    """
    if job.launcher is not None:
        processes = census.below(job.launcher)
        # That it waits and they work was seen when the job was found.
        uses = {pid: Use(one.name, None, float(pid != job.launcher)) for pid, one in processes.items()}
        found = all_families(processes, uses)
    else:
        found = all_families(census.take())
    ours = [family for family in found if family.key == job.key or _launched_by(family, job.launcher)]
    ranks = [rank for family in ours for rank in _local_ranks(family)]
    return tuple(rank for rank in ranks if job.only is None or rank.rank == job.only)


def _launched_by(family: Family, launcher: int | None) -> bool:
    return family.launcher is not None and family.launcher.pid == launcher


def all_families(processes: Census, uses: dict[int, Use] | None = None) -> tuple[Family, ...]:
    """Sort a census into jobs. Where it takes a look at CPU use and `uses` is None, it is taken here."""
    families = Families(processes, names_workers)
    if uses is None:
        undecided = families.undecided()
        uses = Look(undecided).uses() if undecided else {}
    return families.sort(uses)


def not_loaded(pid: int) -> Check:
    """The refusal of a job that is just being started."""
    found = f"process {pid} is a launcher, and its ranks have not loaded PyTorch yet: try again in some seconds"
    return Check("torch", False, found, None, NO_TARGET)


def job_id(first: Process) -> str:
    """Name of a job for good: its first rank on this machine, and when that was started."""
    return f"{first.pid}-{first.start_ticks}"


def _settled(text: str) -> tuple[LocalJob, Family]:
    """The job that `text` means, once all its ranks have loaded torch or have had time to."""
    deadline = time.monotonic() + _STARTING_S
    while True:
        processes = census.take()
        named = _named(text, processes)
        family = _by_pid(named, processes)
        if not family.starting:
            break
        if not family.ranks or (time.monotonic() > deadline and not _works_itself(family)):
            raise not_loaded(named).error()
        if time.monotonic() > deadline:
            break
        time.sleep(_STARTING_POLL_S)
    if not family.ranks:
        raise not_loaded(named).error()
    return _local_job(family, processes[named]), family


def _works_itself(family: Family) -> bool:
    """Whether somebody computes although others of the family are still loading torch: then no launcher is waiting."""
    ranks = [rank.process.pid for rank in family.ranks]
    if any(process.parent not in ranks for process in family.starting):
        return True
    return any((use.wanted_share or use.cpu_share or 0.0) > WORKS for use in Look(ranks).uses().values())


def _by_pid(pid: int, processes: Census) -> Family:
    process = processes.get(pid) or census.process(pid)
    if process is None:
        raise NoTarget(f"process {pid} ended while it was being looked at")
    if not process.readable:
        raise denied(pid).error()
    for family in all_families(processes):
        if pid in family.pids:
            return family
    if is_launcher(process.name, process.command):
        raise not_loaded(pid).error()
    refuse(*what_it_is(process))
    raise NoTarget(f"process {pid} belongs to no PyTorch job: {CANDIDATES}")


def _named(text: str, processes: Census) -> int:
    """The process that TARGET names; of several of one job, its first rank."""
    if text.isdigit():
        return int(text)
    matching = {pid for pid, process in processes.items() if pid != os.getpid() and text in " ".join(process.command)}
    found = [family for family in all_families(processes) if family.pids & matching]
    if not found:
        closed = [pid for pid in matching if processes[pid].python and not processes[pid].readable]
        if closed:
            raise denied(min(closed)).error()
        raise NoTarget(f"no PyTorch process has {text!r} in its command line: {CANDIDATES}")
    firsts = [min(_shown(family)) for family in found]
    if len(found) > 1:
        listed = ", ".join(map(str, firsts))
        raise UsageError(
            f"{text!r} is in the command line of several jobs (processes {listed}): give one of these PIDs"
        )
    return firsts[0]


def _shown(family: Family) -> Collection[int]:
    return [rank.process.pid for rank in family.ranks] or family.pids


def _local_job(family: Family, named: Process) -> LocalJob:
    first = family.ranks[0]
    return LocalJob(
        id=job_id(first.process),
        command=" ".join(_program(family, named).command),
        world_size=world_size(family),
        ranks=_local_ranks(family),
        launcher=family.launcher.pid if family.launcher else None,
        key=family.key,
    )


def _program(family: Family, named: Process) -> Process:
    """The process whose command line says what the job is: not that of a worker, or of multiprocessing."""
    forked = any("multiprocessing" in word for word in named.command)
    if forked and family.launcher is not None:
        return family.launcher
    member = next((member for member in family.members if member.process.pid == named.pid), None)
    if member is not None and member.of != named.pid:
        return next(rank.process for rank in family.ranks if rank.process.pid == member.of)
    return named


def world_size(family: Family) -> int | None:
    """Ranks of the job on all machines, as its launcher says; where nobody numbered them, those that are here."""
    said = {member.numbering.world_size for member in family.ranks if member.numbering is not None}
    if not said:
        return len(family.ranks)
    return said.pop() if len(said) == 1 else None


def _local_ranks(family: Family) -> tuple[LocalRank, ...]:
    return tuple(_local_rank(member) for member in family.ranks)


def _local_rank(member: Member) -> LocalRank:
    own = member.numbering
    return LocalRank(member.process.pid, own.rank if own else None, own.local_rank if own else None)


def names_workers(process: Process) -> bool:
    """Whether its PyTorch gives DataLoader workers a name."""
    return process.libtorch is not None and torch_files.names_workers(process.pid, process.libtorch)
