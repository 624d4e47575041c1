"""`torchtop ps`: the PyTorch jobs of this machine, from outside. No torch, no screen, nothing is touched."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import anyio
import msgspec
from msgspec import Meta, Struct

from torchtop.attach import blockers, census, proc
from torchtop.attach.census import Census, Look, Process, Use
from torchtop.attach.family import Families, Family, Member
from torchtop.attach.job import job_id, names_workers, world_size
from torchtop.attach.role import is_kernel, is_launcher, script
from torchtop.collectors.gpu import GpuCollector
from torchtop.errors import Unavailable
from torchtop.record import GpuSample

SCHEMA = "torchtop.ps/1"
GPU_TIMEOUT_S = 5.0  # a driver without its persistence daemon may take longer: a list of processes does not wait for it
_NOTEBOOK = "JPY_SESSION_NAME"  # Jupyter Server >= 2 gives a kernel the path of its notebook so
_NOT_ON_GPU = "NVML lists no memory of this process (inside a container it may count other process ids)"


class RankRow(Struct, frozen=True):
    """One process that trains, or would."""

    pid: Annotated[int, Meta(description="process id as seen from here")]
    rank: Annotated[
        int | None, Meta(description="rank as its launcher numbered it; null where only the program itself knows it")
    ]
    local_rank: Annotated[int | None, Meta(description="rank on this machine")]
    user: Annotated[str, Meta(description="name of its user, or the number where there is no name")]
    cwd: Annotated[str | None, Meta(description="its working directory, as the process sees it")]
    script: Annotated[str, Meta(description="the program: a path as it was given, -m MODULE, or a notebook")]
    state: Annotated[str, Meta(description="one letter of /proc/PID/stat: R S D T t")]
    age_s: Annotated[float, Meta(description="s since it was started")]
    cpu_share: Annotated[float | None, Meta(description="cores used during a look of 0.3 s (2.0 = two cores)")]
    rss_bytes: Annotated[int, Meta(description="resident memory, shared pages included")]
    gpu_memory_bytes: Annotated[int | None, Meta(description="memory it holds on all GPUs together")]
    gpu_reason: Annotated[str | None, Meta(description="why gpu_memory_bytes is null")]
    workers: Annotated[int, Meta(description="DataLoader workers that it has now")]
    attachable: Annotated[bool, Meta(description="whether nothing that can be seen stands against attaching now")]
    why: Annotated[str | None, Meta(description="what stands against it")]
    fix: Annotated[str | None, Meta(description="command line that helps")]


class JobRow(Struct, frozen=True):
    """All ranks of one job on this machine."""

    id: Annotated[str, Meta(description="pid and start time of its first process here")]
    kernel: Annotated[bool, Meta(description="true for the kernel of a notebook")]
    launcher: Annotated[int | None, Meta(description="process that started the ranks and waits for them")]
    world_size: Annotated[int | None, Meta(description="ranks on all machines; null where nobody says")]
    command: Annotated[str, Meta(description="command line of its launcher or first rank")]
    starting: Annotated[tuple[int, ...], Meta(description="ranks that have not loaded PyTorch yet")]
    ranks: Annotated[tuple[RankRow, ...], Meta(description="ranks on this machine")]


class Listing(Struct, frozen=True):
    """What `torchtop ps --json` prints."""

    schema: Annotated[str, Meta(description="name and version of this document's format")]
    jobs: Annotated[tuple[JobRow, ...], Meta(description="by process id")]
    not_readable: Annotated[
        int, Meta(description="Python processes of other users of which it cannot be told whether they use PyTorch")
    ]
    fix: Annotated[str | None, Meta(description="command line that shows those too")]


class Gpus:
    """Memory that processes hold on GPUs, or why that is not known."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.bytes: dict[int, int | None] = {}
        self._missing: str | None = None
        anyio.run(self._read)

    def of(self, pid: int) -> tuple[int | None, str | None]:
        """(bytes, None) or (None, reason)."""
        if self.reason is not None:
            return None, self.reason
        if pid not in self.bytes:
            return None, self._missing or _NOT_ON_GPU
        held = self.bytes[pid]
        return held, None if held is not None else "the driver does not say how much this process holds"

    async def _read(self) -> None:
        collector = GpuCollector()
        with anyio.move_on_after(GPU_TIMEOUT_S) as limit:
            try:
                await collector.open()
                samples = await collector.read()
                await collector.close()
            except (Unavailable, TimeoutError) as absent:
                self.reason = str(absent)
                return
            except collector.expected_failures() as failed:
                self.reason = f"the NVIDIA driver failed ({failed})"
                return
        if limit.cancelled_caught:
            self.reason = f"the NVIDIA driver did not answer within {GPU_TIMEOUT_S:.0f} s"
            return
        for index in {sample.index for sample in samples}:
            self._add([sample for sample in samples if sample.index == index])

    def _add(self, device: Sequence[GpuSample]) -> None:
        """Count the processes of one device: those of its MIG instances, or of the whole where instances do not say."""
        whole = [sample for sample in device if sample.mig_index is None]
        parts = [sample for sample in device if sample.mig_index is not None]
        said = parts if parts and all(part.processes is not None for part in parts) else whole
        for sample in said:
            if sample.processes is None:
                self._missing = sample.missing.get("processes") or sample.missing.get("device")
            for held in sample.processes or ():
                before = self.bytes.get(held.pid, 0)
                both = before is not None and held.memory_bytes is not None
                self.bytes[held.pid] = (before or 0) + (held.memory_bytes or 0) if both else None


def ps(as_json: bool) -> int:
    """Print the jobs of this machine; the exit code."""
    listing = take()
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(listing), indent=2).decode())
        return 0
    if listing.jobs:
        from torchtop.ps_table import show

        show(listing.jobs)
    else:
        print("torchtop: no process with PyTorch in it was found on this machine", file=sys.stderr)
    if listing.not_readable:
        print(
            f"torchtop: {listing.not_readable} Python processes of other users cannot be looked into: {listing.fix}",
            file=sys.stderr,
        )
    return 0


def take() -> Listing:
    """Look at the machine once. Takes about half a second, most of it to see who uses a CPU."""
    processes = census.take()
    closed = [process for process in processes.values() if process.python and not process.readable]
    look = Look([process.pid for process in processes.values() if process.libtorch] + [one.pid for one in closed])
    gpus = Gpus()  # in the time that the look takes anyway
    uses = look.uses()
    jobs = [
        _job(family, uses, gpus)
        for family in Families(processes, names_workers).sort(uses)
        if family.pids - {os.getpid()}
    ]
    known = {process.pid for process in closed if _is_torch(process, gpus)}
    jobs += [_closed_job(processes[pid], uses, gpus) for pid in sorted(known) if not _any_above(processes, pid, known)]
    hidden = len(closed) - len(known)
    return Listing(
        schema=SCHEMA,
        jobs=tuple(jobs),
        not_readable=hidden,
        fix="sudo $(command -v torchtop) ps" if hidden else None,
    )


def _job(family: Family, uses: Mapping[int, Use], gpus: Gpus) -> JobRow:
    first = family.ranks[0].process if family.ranks else family.launcher or family.starting[0]
    named = family.launcher or first
    program = script(named.command) if "multiprocessing" in " ".join(first.command) else None
    workers = [member.of for member in family.members if member.role == "worker"]
    return JobRow(
        id=job_id(first),
        kernel=is_kernel(named.command),
        launcher=family.launcher.pid if family.launcher else None,
        world_size=world_size(family),
        command=" ".join(named.command),
        starting=tuple(process.pid for process in family.starting),
        ranks=tuple(_rank(member, program, workers.count(member.process.pid), uses, gpus) for member in family.ranks),
    )


def _rank(member: Member, program: str | None, workers: int, uses: Mapping[int, Use], gpus: Gpus) -> RankRow:
    own = member.numbering
    return _row(
        member.process,
        (own.rank, own.local_rank) if own else (None, None),
        program,
        workers,
        uses.get(member.process.pid),
        gpus,
    )


def _closed_job(process: Process, uses: Mapping[int, Use], gpus: Gpus) -> JobRow:
    """A job of another user, told by torch's own names for processes or by the GPU."""
    return JobRow(
        id=job_id(process),
        kernel=is_kernel(process.command),
        launcher=None,
        world_size=None,
        command=" ".join(process.command),
        starting=(),
        ranks=(_row(process, (None, None), None, 0, uses.get(process.pid), gpus),),
    )


def _row(
    process: Process,
    place: tuple[int | None, int | None],
    program: str | None,
    workers: int,
    use: Use | None,
    gpus: Gpus,
) -> RankRow:
    blocking = next((check for check in blockers.examine(process.pid) if check.blocks), None)
    gpu_bytes, gpu_reason = gpus.of(process.pid)
    return RankRow(
        pid=process.pid,
        rank=place[0],
        local_rank=place[1],
        user=_user(process.uid),
        cwd=_cwd(process.pid),
        script=program or _script(process),
        state=process.state,
        age_s=process.age_s,
        cpu_share=use.cpu_share if use else None,
        rss_bytes=process.rss_bytes,
        gpu_memory_bytes=gpu_bytes,
        gpu_reason=gpu_reason,
        workers=workers,
        attachable=blocking is None,
        why=blocking.found if blocking else None,
        fix=blocking.fix if blocking else None,
    )


def _script(process: Process) -> str:
    notebook = (process.environment or {}).get(_NOTEBOOK)
    return notebook if notebook and is_kernel(process.command) else script(process.command)


def _is_torch(process: Process, gpus: Gpus) -> bool:
    named = process.name.startswith("pt_") or is_launcher(process.name, process.command)
    return named or process.pid in gpus.bytes


def _any_above(processes: Census, pid: int, known: Iterable[int]) -> bool:
    parent = processes.get(processes[pid].parent)
    while parent is not None:
        if parent.pid in known:
            return True
        parent = processes.get(parent.parent)
    return False


def _cwd(pid: int) -> str | None:
    try:
        return os.readlink(proc.PROC / str(pid) / "cwd")
    except OSError:
        return None


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)
