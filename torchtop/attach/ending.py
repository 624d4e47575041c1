"""How a process ended that is not our child: linux/pidfd.h (PIDFD_GET_INFO, Linux 6.15), else /proc/PID/stat (proc(5))."""

from __future__ import annotations

import fcntl
import os
import signal
import struct

from torchtop.attach import proc

_INFO = struct.Struct("=QQ11Ii")  # struct pidfd_info: mask, cgroupid, 11 ids, exit_code
_SIZE = 72  # PIDFD_INFO_SIZE_VER1 is 72 bytes: what the kernel fills in beyond the exit code is not read
_GET_INFO = 0xC000FF0B | _SIZE << 16  # _IOWR(0xFF, 11, struct pidfd_info)
_EXIT = 1 << 3  # PIDFD_INFO_EXIT
_EXIT_CODE = 52  # field of /proc/PID/stat, counted from 1


def of(pid: int, pidfd: int) -> str | None:
    """`exit code 1`, `killed by SIGKILL`; None where nobody says. To be asked when `pidfd` has become readable."""
    status = _of_zombie(pid)
    if status is None:
        status = _of_reaped(pidfd)
    return None if status is None else in_words(status)


def in_words(status: int) -> str:
    """A wait(2) status."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        known = {member.value: member.name for member in signal.Signals}
        return f"killed by {known.get(number, f'signal {number}')}"
    return f"exit code {os.WEXITSTATUS(status)}"


def _of_zombie(pid: int) -> int | None:
    folder = proc.PROC / str(pid)
    try:
        owner, text = folder.stat().st_uid, (folder / "stat").read_text()
    except OSError:
        return None
    state, *rest = text.rpartition(")")[2].split()
    status = int(rest[_EXIT_CODE - 4])
    # Strangers are shown 0, whatever it was.
    return status if state == "Z" and (status or os.geteuid() in (0, owner)) else None


def _of_reaped(pidfd: int) -> int | None:
    buffer = bytearray(_SIZE)
    _INFO.pack_into(buffer, 0, _EXIT, *[0] * 13)
    try:
        fcntl.ioctl(pidfd, _GET_INFO, buffer)
    except OSError:
        return None  # an older kernel
    mask, *_, status = _INFO.unpack_from(buffer)
    return status if mask & _EXIT else None
