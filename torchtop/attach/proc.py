"""What /proc says about one process. Source: proc(5). Everything here only reads."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")


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


def start_ticks(pid: int) -> int:
    """Clock ticks after boot at which `pid` started: with the pid, it names one process for good."""
    text = (PROC / str(pid) / "stat").read_text(errors="replace")
    return int(text.rpartition(")")[2].split()[19])


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
