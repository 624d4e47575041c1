"""The ranks of a job and their DataLoader workers, from /proc/PID (proc(5)) and cgroup memory files.

Traps of the source, as the kernel has them:
- /proc/PID/status counts context switches of the main thread alone, and its schedstat is read alone. That is the thread
  that trains; adding up hundreds of OpenMP threads would cost more than all other files together.
- /proc/PID/io and /proc/PID/exe of another user's process need ptrace permission. Without it: None, not a failure.
- A pid is reused; only pid and start time together name a process.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import anyio
import anyio.to_thread

from torchtop.attach.proc import Stat, parse_stat
from torchtop.attach.role import Identity, is_worker
from torchtop.collectors.base import Polled
from torchtop.collectors.host import per_second
from torchtop.errors import Unavailable
from torchtop.record import ProcessSample

UNLIMITED_BYTES = 1 << 62  # cgroup v1 writes "no limit" as the largest page count that fits
TIMEOUT_S = 5.0  # a reading takes milliseconds; longer means a target that holds a kernel lock


class CgroupMemory(NamedTuple):
    """Bytes; the limit is None where there is none."""

    limit: int | None
    used: int | None


class Known(NamedTuple):
    """What is kept of a process until the next reading."""

    t: float
    stat: Stat
    switches: int | None
    private_bytes: int | None
    run_delay_s: float | None
    io: tuple[int, int] | None
    cgroup: tuple[Path, ...]
    identity: Identity
    settled: bool
    worker: bool = False


def parse_switches(status: str) -> int | None:
    """Involuntary context switches of the main thread in /proc/PID/status; None in kernels that do not count them."""
    found = re.search(r"^nonvoluntary_ctxt_switches:\s*(\d+)", status, re.MULTILINE)
    return int(found[1]) if found else None


def parse_private(status: str) -> int | None:
    """bytes of resident memory that are no page of a mapped file, of /proc/PID/status: anonymous and shared memory.

    None in kernels before 4.5, which do not tell them apart, and for a process that is ending.
    """
    found = re.findall(r"^Rss(?:Anon|Shmem):\s*(\d+) kB", status, re.MULTILINE)
    return 1024 * sum(map(int, found)) if len(found) == 2 else None


def parse_run_delay(schedstat: str) -> float | None:
    """s that a thread was ready to run and waited for a CPU, of /proc/PID/task/TID/schedstat (sched-stats.rst).

    None in kernels that have the file but do not count: there all numbers stay 0.
    """
    fields = schedstat.split()
    if len(fields) < 3 or not any(map(int, fields[:3])):
        return None
    return int(fields[1]) / 1e9


def parse_io(text: str) -> tuple[int, int]:
    """Bytes fetched from and sent to storage, of /proc/PID/io; the page cache's share does not count."""
    fields = dict(line.split(": ") for line in text.splitlines())
    return int(fields["read_bytes"]), int(fields["write_bytes"])


def parse_cgroup(text: str, controller: str = "memory") -> tuple[str, str] | None:
    """(version "v1" or "v2", path) of the hierarchy that has `controller`, of /proc/PID/cgroup; None if there is none.

    On hybrid systems both exist and v1 holds the controllers (cgroups(7)).
    """
    rows = [line.split(":", 2) for line in text.splitlines() if line.count(":") >= 2]
    for _, controllers, path in rows:
        if controller in controllers.split(","):
            return "v1", path
    for number, _, path in rows:
        if number == "0":
            return "v2", path
    return None


def cgroup_directories(root: Path, text: str, controller: str = "memory") -> tuple[Path, ...]:
    """Directories below `root` whose limits bind a process with this /proc/PID/cgroup, its own first.

    In a container the path may be the host's while `root` shows the container's part only: what does not exist is left
    out, and `root` itself ends the list.
    """
    found = parse_cgroup(text, controller)
    if found is None:
        return ()
    version, path = found
    base = root / controller if version == "v1" else root
    # ".." leads out of this cgroup namespace, to directories that cannot be seen from here.
    own = base if ".." in path.split("/") else base / path.strip("/")
    above = [own, *own.parents]
    return tuple(directory for directory in above[: above.index(base) + 1] if os.path.isdir(directory))


def cgroup_memory(directories: Sequence[Path]) -> CgroupMemory:
    """The smallest limit of the directories, and the use of the one that has it; of the first one if none limits."""
    groups = [
        CgroupMemory(
            limit=_bytes(directory, "memory.max", "memory.limit_in_bytes"),
            used=_bytes(directory, "memory.current", "memory.usage_in_bytes"),
        )
        for directory in directories
    ]
    limited = [group for group in groups if group.limit is not None]
    if limited:
        return min(limited, key=lambda group: group.limit or 0)
    return groups[0] if groups else CgroupMemory(None, None)


class ProcessCollector(Polled):
    """Ranks and their workers. Cost: some 50 us a process and 5 us for each of its threads; read in a worker thread."""

    name: ClassVar[str] = "process"

    def __init__(
        self,
        rank_pids: tuple[int, ...],
        period_s: float = 1.0,
        proc: Path = Path("/proc"),
        cgroup: Path = Path("/sys/fs/cgroup"),
    ) -> None:
        super().__init__(period_s)
        self._rank_pids = rank_pids
        self._proc = proc
        self._cgroup = cgroup
        self._has_children_files = False
        self._known: dict[int, Known] = {}

    def follow(self, rank_pids: tuple[int, ...]) -> None:
        """Read these ranks from now on."""
        self._rank_pids = rank_pids

    async def open(self) -> None:
        if not (self._proc / "self/stat").exists() and not any((self._proc / str(p)).exists() for p in self._rank_pids):
            raise Unavailable(f"there are no processes in {self._proc}: torchtop needs Linux with /proc mounted")
        # Kernels without CONFIG_PROC_CHILDREN have no such file (proc_tid_children(5)).
        self._has_children_files = any((self._proc / f"{p}/task/{p}/children").exists() for p in self._rank_pids)

    async def read(self) -> Sequence[ProcessSample]:
        """A sample for each rank that lives and each worker of it; rates are None in a process's first."""
        # The command line is read through the target's own memory lock: a busy target could hold up the event loop.
        with anyio.move_on_after(TIMEOUT_S):
            self._known, samples = await anyio.to_thread.run_sync(self._read, abandon_on_cancel=True)
            return samples
        raise TimeoutError(f"reading {self._proc} took more than {TIMEOUT_S:.0f} s")

    def _read(self) -> tuple[dict[int, Known], tuple[ProcessSample, ...]]:
        """Changes nothing of `self`: after a timeout it may still run beside its successor."""
        children = {} if self._has_children_files else _children_by_parent(self._proc)
        limits: dict[tuple[Path, ...], CgroupMemory] = {}
        known: dict[int, Known] = {}
        samples = []
        for rank_pid in self._rank_pids:
            for pid in self._rank_and_workers(rank_pid, children, known):
                now = known[pid]
                if now.cgroup not in limits:
                    limits[now.cgroup] = cgroup_memory(now.cgroup)
                samples.append(_sample(pid, rank_pid, now, self._before(pid, now.stat), limits[now.cgroup]))
        return known, tuple(samples)

    def _rank_and_workers(
        self, rank_pid: int, children: dict[int, list[int]], known: dict[int, Known]
    ) -> Iterator[int]:
        """Pids of the rank and its workers, all entered in `known`; nothing if the rank is gone."""
        rank = self._look(rank_pid)
        if rank is None:
            return
        known[rank_pid] = rank
        yield rank_pid
        waiting = [(rank_pid, rank)]
        while waiting:
            parent_pid, parent = waiting.pop(0)
            below = self._children(parent_pid) if self._has_children_files else children.get(parent_pid, [])
            for pid in below:
                # A rank may have started the others (torch.multiprocessing.spawn): their workers are theirs.
                if pid in self._rank_pids or pid in known:
                    continue
                try:
                    process = self._look(pid)
                except PermissionError:  # /proc mounted with hidepid, and a child of another user: no worker of ours
                    continue
                if process is None:
                    continue
                # Once a worker, always a worker: the rank may give itself another title later.
                worker = process.worker or is_worker(process.identity, parent.identity, rank.identity)
                known[pid] = process._replace(worker=worker)
                waiting.append((pid, process))
                if worker:
                    yield pid

    def _look(self, pid: int) -> Known | None:
        """What /proc says of `pid` now; None if it is gone."""
        directory = f"{self._proc}/{pid}"
        try:
            stat = parse_stat(_read(f"{directory}/stat"))
            status = _read(f"{directory}/status")
        except (FileNotFoundError, ProcessLookupError):
            return None
        t = time.monotonic()
        before = self._before(pid, stat)
        # Between fork and exec any child looks like a worker, so the first look at a process is not its last.
        settled = before is not None and pid not in self._rank_pids
        if before is not None and before.settled:
            identity, cgroup = before.identity._replace(name=stat.name), before.cgroup
        else:
            identity = Identity(stat.name, _exe(directory), _text(f"{directory}/cmdline") or "")
            cgroup = cgroup_directories(self._cgroup, _text(f"{directory}/cgroup") or "")
        io, schedstat = _text(f"{directory}/io"), _text(f"{directory}/task/{pid}/schedstat")
        return Known(
            t=t,
            stat=stat,
            switches=parse_switches(status),
            private_bytes=parse_private(status),
            run_delay_s=parse_run_delay(schedstat) if schedstat else None,
            io=parse_io(io) if io else None,
            cgroup=cgroup,
            identity=identity,
            settled=settled,
            worker=before is not None and before.settled and before.worker,
        )

    def _before(self, pid: int, stat: Stat) -> Known | None:
        """The last reading of this very process."""
        before = self._known.get(pid)
        return before if before is not None and before.stat.start_ticks == stat.start_ticks else None

    def _children(self, pid: int) -> list[int]:
        """Children of all threads of `pid`: a child is listed under the thread that forked it."""
        children: list[int] = []
        tasks = f"{self._proc}/{pid}/task"
        try:
            threads = os.listdir(tasks)
        except (FileNotFoundError, ProcessLookupError):
            return []
        for thread in threads:
            text = _text(f"{tasks}/{thread}/children")
            children.extend(map(int, text.split()) if text else ())
        return children


def _sample(pid: int, rank_pid: int, now: Known, before: Known | None, cgroup: CgroupMemory) -> ProcessSample:
    seconds = now.t - before.t if before else 0.0
    read_now, write_now = now.io or (None, None)
    read_before, write_before = (before.io if before else None) or (None, None)
    run_delay = per_second(now.run_delay_s, before.run_delay_s if before else None, seconds)
    return ProcessSample(
        t=now.t,
        pid=pid,
        rank_pid=rank_pid,
        state=now.stat.state,
        cpu_share=per_second(now.stat.cpu_s, before.stat.cpu_s if before else None, seconds),
        rss_bytes=now.stat.rss_bytes,
        threads=now.stat.threads,
        read_bytes_per_s=per_second(read_now, read_before, seconds),
        write_bytes_per_s=per_second(write_now, write_before, seconds),
        involuntary_switches_per_s=per_second(now.switches, before.switches if before else None, seconds),
        cgroup_memory_limit_bytes=cgroup.limit,
        cgroup_memory_bytes=cgroup.used,
        # A wait is counted at its end: one that began before the last reading is longer than the time since.
        run_delay_share=min(run_delay, 1.0) if run_delay is not None else None,
        major_faults_per_s=per_second(now.stat.major_faults, before.stat.major_faults if before else None, seconds),
        private_bytes=now.private_bytes,
    )


def _children_by_parent(proc: Path) -> dict[int, list[int]]:
    """Children of every process, where the kernel does not list them itself. Costs one file per process."""
    children: dict[int, list[int]] = {}
    for name in os.listdir(proc):
        text = _text(f"{proc}/{name}/stat") if name.isdecimal() else None
        if text:
            children.setdefault(parse_stat(text).parent, []).append(int(name))
    return children


def _bytes(directory: Path, *names: str) -> int | None:
    """The number in the first file of `names` (v2, then v1) that exists; None if there is none or it says "max"."""
    for name in names:
        text = _text(f"{directory}/{name}")
        if text is not None:
            number = text.strip()
            return int(number) if number.isdecimal() and int(number) < UNLIMITED_BYTES else None
    return None


def _exe(directory: str) -> str | None:
    try:
        return os.readlink(f"{directory}/exe")
    except OSError:
        return None


def _read(path: str) -> str:
    # A rank may have hundreds of threads, each a file: Path.read_text takes 13 us a file, this takes 5.
    with open(path, "rb", buffering=0) as file:
        return file.read().decode(errors="replace")


def _text(path: str) -> str | None:
    """The file; None if it is absent, not ours to read, or its process ended."""
    try:
        return _read(path)
    except OSError:
        return None
