"""What /proc says about one process. Source: proc(5). Everything here only reads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Mapping(NamedTuple):
    """One line of /proc/PID/maps."""

    start: int
    end: int
    permissions: str
    path: str


class Status(NamedTuple):
    """The lines of /proc/PID/status and stat that attaching depends on."""

    name: str
    state: str
    uid: int
    tracer_pid: int
    ppid: int
    pids: tuple[int, ...]
    """The process id in each nested PID namespace, outermost first."""


def status(pid: int) -> Status:
    """Read the identity and state of `pid`; OSError (FileNotFoundError, ProcessLookupError) when it is gone."""
    fields: dict[str, str] = {}
    for line in (PROC / str(pid) / "status").read_text(errors="replace").splitlines():
        key, _, value = line.partition(":")
        fields[key] = value.strip()
    return Status(
        name=fields["Name"],
        state=fields["State"][0],
        uid=int(fields["Uid"].split()[1]),
        tracer_pid=int(fields["TracerPid"]),
        ppid=int(fields["PPid"]),
        pids=tuple(int(number) for number in fields.get("NSpid", str(pid)).split()),
    )


class Stat(NamedTuple):
    """What is used of /proc/PID/stat."""

    name: str
    state: str
    parent: int
    major_faults: int
    cpu_s: float
    threads: int
    start_ticks: int
    rss_bytes: int


class Credentials(NamedTuple):
    """What the kernel compares before one process may trace another (ptrace(2), "Ptrace access mode checking")."""

    uids: tuple[int, ...]
    """Real, effective, saved and file system user id."""
    gids: tuple[int, ...]
    groups: tuple[int, ...]
    permitted: int
    """Capability bits that it may have."""
    effective: int
    seccomp: int | None
    """0 none, 1 strict, 2 filter; None in a kernel without seccomp."""
    no_new_privileges: bool


def parse_stat(text: str) -> Stat:
    """Fields of /proc/PID/stat. The name may hold spaces and parentheses: only the last parenthesis ends it."""
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    return Stat(
        name=head.partition("(")[2],
        state=fields[0],
        parent=int(fields[1]),
        major_faults=int(fields[9]),
        cpu_s=(int(fields[11]) + int(fields[12])) / TICKS_PER_S,
        threads=int(fields[17]),
        start_ticks=int(fields[19]),
        rss_bytes=int(fields[21]) * PAGE_BYTES,
    )


def stat(pid: int) -> Stat:
    """Read /proc/PID/stat, which every user may; OSError when the process is gone."""
    return parse_stat((PROC / str(pid) / "stat").read_text(errors="replace"))


def start_ticks(pid: int) -> int:
    """Clock ticks after boot at which `pid` started: with the pid, it names one process for good."""
    return stat(pid).start_ticks


def credentials(pid: int) -> Credentials:
    """Read who `pid` is to the kernel; OSError when it is gone. No permission is needed."""
    lines = (PROC / str(pid) / "status").read_text(errors="replace").splitlines()
    fields = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
    return Credentials(
        uids=tuple(map(int, fields["Uid"])),
        gids=tuple(map(int, fields["Gid"])),
        groups=tuple(map(int, fields["Groups"])),
        permitted=int(fields["CapPrm"][0], 16),
        effective=int(fields["CapEff"][0], 16),
        seccomp=int(fields["Seccomp"][0]) if "Seccomp" in fields else None,
        no_new_privileges=fields.get("NoNewPrivs") == ["1"],
    )


def pids() -> Iterator[int]:
    """Every process that this /proc shows."""
    return (int(name) for name in os.listdir(PROC) if name.isdecimal())


def demand_s(pid: int) -> float | None:
    """s for which threads of `pid` that live now ran or waited for a CPU; None where the kernel does not count it.

    What a process wants, not what it gets: on a crowded machine a busy process gets little. A thread that ends takes
    its share with it. Source: /proc/PID/task/TID/schedstat (sched-stats.rst).
    """
    total = 0
    try:
        for task in os.listdir(PROC / str(pid) / "task"):
            ran, waited, _ = (PROC / str(pid) / "task" / task / "schedstat").read_text().split()
            total += int(ran) + int(waited)
    except (OSError, ValueError):
        return None
    return total / 1e9


def command_line(pid: int) -> tuple[str, ...]:
    """argv as the process has it now; empty for a zombie or a kernel thread."""
    raw = (PROC / str(pid) / "cmdline").read_bytes()
    return tuple(part.decode(errors="replace") for part in raw.rstrip(b"\0").split(b"\0")) if raw else ()


def environment(pid: int) -> dict[str, str]:
    """The environment that `pid` was started with; later changes by the program do not show."""
    pairs = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    return {
        key.decode(errors="replace"): value.decode(errors="replace")
        for key, separator, value in (pair.partition(b"=") for pair in pairs)
        if separator
    }


def mappings(pid: int) -> list[Mapping]:
    """The memory map of `pid`. PermissionError when ptrace access is denied."""
    found = []
    for line in (PROC / str(pid) / "maps").read_text(errors="replace").splitlines():
        parts = line.split(None, 5)
        start, end = (int(number, 16) for number in parts[0].split("-"))
        found.append(Mapping(start, end, parts[1], parts[5] if len(parts) == 6 else ""))
    return found


def executable(pid: int) -> str | None:
    """What its `exe` link says; None for a kernel thread, and where ptrace access is denied."""
    try:
        return os.readlink(PROC / str(pid) / "exe")
    except OSError:
        return None


def namespace(pid: int | str, kind: str) -> str | None:
    """Which namespace of `kind` (mnt, pid, user, net) the process is in; None where ptrace access is denied."""
    try:
        return os.readlink(PROC / str(pid) / "ns" / kind)
    except OSError:
        return None


def children(pid: int) -> tuple[int, ...]:
    """Direct children of `pid`, of all its threads."""
    found: list[int] = []
    try:
        for task in (PROC / str(pid) / "task").iterdir():
            found += [int(number) for number in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return ()
    return tuple(found)


def inside(pid: int, path: str) -> Path:
    """`path` as the process sees it, reachable from here: its root may be another mount namespace."""
    return PROC / str(pid) / "root" / path.lstrip("/")
