"""Every process of this machine that may have to do with PyTorch, as /proc shows them at one moment.

Nothing is touched and no permission is needed for the census itself. What only the owner may read (memory map,
environment, executable) is None for processes of others. A process that ends while it is looked at is left out.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from typing import NamedTuple

from torchtop.attach import proc

LOOK_S = 0.3  # s between the two readings from which CPU use is told
_LIBTORCH = re.compile(rb" (/[^\n]*/libtorch(?:_cpu|_python|_global_deps)?\.so[^\n]*)$", re.MULTILINE)
_PYTHON = re.compile(r"python|^pt_")  # torch names threads pt_elastic, pt_data_worker


class Process(NamedTuple):
    """One process; what could not be read is None."""

    pid: int
    parent: int
    name: str
    state: str
    uid: int
    start_ticks: int
    cpu_s: float
    rss_bytes: int
    command: tuple[str, ...]
    exe: str | None
    environment: dict[str, str] | None
    libtorch: str | None
    """Path of PyTorch's library as the process sees it."""
    readable: bool
    """Whether the memory map could be read: only then no `libtorch` means no PyTorch."""
    network: str | None = None
    """Its network namespace: the same port in another one is another port."""

    @property
    def python(self) -> bool:
        """Whether it looks like a Python: by its executable, else by its name or command line."""
        names = [self.exe or "", self.name, *self.command[:1]]
        return any(_PYTHON.search(os.path.basename(name)) for name in names)

    @property
    def age_s(self) -> float:
        """s since it was started."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.start_ticks / proc.TICKS_PER_S


Census = dict[int, Process]


class Use(NamedTuple):
    """What a process did with CPUs during a look."""

    name: str
    """Its name at the end: a DataLoader worker gets one a moment after it was forked."""
    cpu_share: float | None
    """Cores used, in steps of a clock tick (10 ms as a rule)."""
    wanted_share: float | None
    """Cores used or waited for, by the threads that lived through the look."""


def take() -> Census:
    """Read all processes but threads of the kernel. Costs about 0.2 ms for each."""
    found = ((pid, process(pid)) for pid in proc.pids())
    return {pid: one for pid, one in found if one is not None and one.command}


def below(pid: int) -> Census:
    """Process `pid` and what it started, each line of descent as far as the first process with PyTorch."""
    found: Census = {}
    waiting = [pid]
    while waiting:
        one = process(waiting.pop())
        if one is None or one.pid in found:
            continue
        found[one.pid] = one
        if one.pid == pid or one.libtorch is None:
            waiting += proc.children(one.pid)
    return found


def process(pid: int) -> Process | None:
    """Read one process; None if it is gone or has ended."""
    try:
        stat = proc.stat(pid)
        command = proc.command_line(pid)
        if stat.state in "ZX":
            return None
        uid = proc.status(pid).uid
    except OSError:
        return None
    libtorch, readable = _libtorch(pid)
    try:
        environment = proc.environment(pid)
    except OSError:
        environment = None
    return Process(
        pid=pid,
        parent=stat.parent,
        name=stat.name,
        state=stat.state,
        uid=uid,
        start_ticks=stat.start_ticks,
        cpu_s=stat.cpu_s,
        rss_bytes=stat.rss_bytes,
        command=command,
        exe=proc.executable(pid),
        environment=environment,
        libtorch=libtorch,
        readable=readable,
        network=proc.namespace(pid, "net"),
    )


class Look:
    """Two readings of CPU use, `LOOK_S` apart; the time in between is free for other work."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._began = time.monotonic()
        self._before = {pid: _reading(pid) for pid in pids}

    def uses(self) -> dict[int, Use]:
        """Wait until the time is up, then read again. A process that ended meanwhile is left out."""
        time.sleep(max(0.0, self._began + LOOK_S - time.monotonic()))
        seconds = time.monotonic() - self._began
        found = {}
        for pid, before in self._before.items():
            after = _reading(pid)
            if before is not None and after is not None:
                shares = (_share(a, b, seconds) for a, b in zip(after[1:], before[1:], strict=True))
                found[pid] = Use(after[0], *shares)
        return found


def _reading(pid: int) -> tuple[str, float, float | None] | None:
    try:
        stat = proc.stat(pid)
    except OSError:
        return None
    return stat.name, stat.cpu_s, proc.demand_s(pid)


def _share(after: float | None, before: float | None, seconds: float) -> float | None:
    if after is None or before is None or after < before:
        return None
    return (after - before) / seconds


def _libtorch(pid: int) -> tuple[str | None, bool]:
    try:
        found = _LIBTORCH.search((proc.PROC / str(pid) / "maps").read_bytes())
    except OSError:
        return None, False
    return (found[1].decode(errors="replace") if found else None), True
