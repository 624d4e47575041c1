"""What the main thread of a target waits in, and whether it is the kind of sleep in which a thread may be started.

Source: /proc/PID/syscall (proc(5)), readable with ptrace permission; numbers of x86-64 (syscalls(2)).
"""

from __future__ import annotations

import os
import re
import stat
import time
from typing import NamedTuple

from torchtop.attach import proc
from torchtop.attach.ptrace import Place, read_memory

ASLEEP_S = 1.0  # s without any move after which we do not wait for a safe point

# A thread in one of these holds no lock of malloc or of the dynamic loader, which starting a thread takes. Never futex:
# waiting for malloc's own lock is one too.
_SLEEPS = {
    7: "poll",
    23: "select",
    34: "pause",
    35: "nanosleep",
    61: "wait4",
    230: "clock_nanosleep",
    232: "epoll_wait",
    247: "waitid",
    270: "pselect6",
    271: "ppoll",
    281: "epoll_pwait",
    441: "epoll_pwait2",
}
_SLEEPS_ON_A_FILE = {0: "read", 43: "accept", 45: "recvfrom", 47: "recvmsg", 288: "accept4"}
_OTHERS = {
    1: "write",
    3: "close",
    9: "mmap",
    11: "munmap",
    16: "ioctl, which is how a program talks to a driver",
    17: "pread64",
    28: "madvise",
    44: "sendto",
    46: "sendmsg",
    56: "clone",
    58: "vfork",
    59: "execve",
    73: "flock",
    74: "fsync",
    75: "fdatasync",
    128: "rt_sigtimedwait",
    130: "rt_sigsuspend",
    219: "restart_syscall, which goes on with a wait that was interrupted",
    202: "futex, which is how a program waits for a lock or for a thread",
    257: "openat",
    262: "newfstatat",
    435: "clone3",
    449: "futex_waitv",
}
_RESTART = 219  # restart_syscall(2): nanosleep, poll, and a futex with a time limit
_LOADS = re.compile(b"\xb8(....)\x0f\x05", re.DOTALL)  # mov eax, imm32; syscall


class SystemCall(NamedTuple):
    """One line of /proc/PID/syscall, of a thread that waits in the kernel."""

    number: int
    """What the program asked for; `place` has restart_syscall instead where that was interrupted before."""
    arguments: tuple[int, ...]
    place: Place

    @property
    def name(self) -> str:
        """For a sentence."""
        if self.number < 0:
            return "the kernel, outside of any system call"
        return {**_SLEEPS, **_SLEEPS_ON_A_FILE, **_OTHERS}.get(self.number, f"system call {self.number}")


def system_call(pid: int) -> SystemCall | None:
    """What the main thread waits in; None while it runs, and where that cannot be read."""
    try:
        call = parse((proc.PROC / str(pid) / "syscall").read_text())
    except OSError:
        return None
    if call is not None and call.number == _RESTART:
        # The instructions before the place still load the first number, or else we do not know it.
        asked = _LOADS.fullmatch(read_memory(pid, call.place.instruction - 7, 7))
        if asked is not None:
            return call._replace(number=int.from_bytes(asked[1], "little"))
    return call


def parse(line: str) -> SystemCall | None:
    """`number arguments stack instruction`, `-1 stack instruction`, or `running`."""
    fields = line.split()
    if len(fields) not in (3, 9):
        return None
    numbers = [int(field, 0) for field in fields]
    return SystemCall(numbers[0], tuple(numbers[1:-2]), Place(numbers[0], numbers[-2], numbers[-1]))


class Sleeper:
    """Tells for how long the main thread has not moved, in a call from which a thread may be started."""

    def __init__(self, pid: int, enough_s: float) -> None:
        self._pid = pid
        self._enough_s = enough_s
        self._last: tuple[SystemCall, str] | None = None
        self.since = 0.0
        """CLOCK_MONOTONIC seconds of the look that first found it where it is."""

    def look(self) -> bool:
        """Whether it sleeps now; a look costs about 40 us."""
        call = system_call(self._pid)
        if call is None or not _may_be_used(self._pid, call):
            self._last = None
            return False
        now = call, _switches(self._pid)
        if now != self._last:
            self._last, self.since = now, time.monotonic()
        return True

    def place(self) -> Place | None:
        """Where it has been asleep for `enough_s`, by the last `look`."""
        if self._last is None or time.monotonic() - self.since < self._enough_s:
            return None
        return self._last[0].place


def _may_be_used(pid: int, call: SystemCall) -> bool:
    if call.number in _SLEEPS:
        return True
    # A file on a disk or of the kernel is read with locks held that we know nothing of; malloc reads some of those.
    return call.number in _SLEEPS_ON_A_FILE and _is_a_stream(pid, call.arguments[0])


def _is_a_stream(pid: int, descriptor: int) -> bool:
    try:
        facts = os.stat(proc.PROC / str(pid) / "fd" / str(descriptor))
    except OSError:
        return False
    terminal = stat.S_ISCHR(facts.st_mode) and os.major(facts.st_rdev) in (4, 5, *range(136, 144))
    return terminal or stat.S_ISFIFO(facts.st_mode) or stat.S_ISSOCK(facts.st_mode)


def _switches(pid: int) -> str:
    """How often it has gone to sleep: two sleeps at the same place differ in this."""
    for line in (proc.PROC / str(pid) / "task" / str(pid) / "status").read_text(errors="replace").splitlines():
        if line.startswith("voluntary_ctxt_switches"):
            return line
    return ""
