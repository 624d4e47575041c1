"""Whether a process may be attached to now, and if not, why and what helps."""

from __future__ import annotations

import os
import time

from torchtop.attach import proc
from torchtop.errors import AttachError, NoTarget

_REFUSED_STATES = {
    "T": "it is stopped: resume it first (kill -CONT {pid})",
    "t": "another debugger holds it stopped",
    "Z": "it has ended and waits for its parent (zombie)",
    "X": "it has ended",
    "D": "its main thread is in uninterruptible sleep (disk or driver): try again when it has left it",
}


def check_state(pid: int, patience_s: float = 2.0) -> proc.Status:
    """Refuse a target that must not be touched now; raise `NoTarget` when there is none.

    Waits up to `patience_s` for it to leave uninterruptible sleep: a process that starts is in it again and again.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            status = proc.status(pid)
        except (FileNotFoundError, ProcessLookupError):
            raise NoTarget(f"there is no process {pid}: `pgrep -af python` lists candidates") from None
        if status.tracer_pid:
            raise AttachError(
                f"process {pid} is already traced by process {status.tracer_pid}: end that debugger or profiler first"
            )
        if status.state == "D" and time.monotonic() < deadline:
            time.sleep(0.01)
            continue
        if status.state in _REFUSED_STATES:
            raise AttachError(f"process {pid} cannot be attached to: {_REFUSED_STATES[status.state].format(pid=pid)}")
        return status


def check_alive(pid: int) -> None:
    """Raise `NoTarget` once the process has ended."""
    try:
        if proc.status(pid).state not in "ZX":
            return
    except (FileNotFoundError, ProcessLookupError):
        pass
    raise NoTarget(f"process {pid} ended while it was being attached to")


def permission_sentence(pid: int, error: OSError) -> str:
    """Why ptrace was refused, as far as it can be told, and the command that helps."""
    attach = f"sudo $(command -v torchtop) export {pid}"
    try:
        uid = proc.status(pid).uid
    except (OSError, KeyError):
        uid = None
    if uid is not None and os.geteuid() not in (0, uid):
        return f"process {pid} belongs to another user (uid {uid}): {attach}"
    yama = proc.PROC / "sys/kernel/yama/ptrace_scope"
    scope = yama.read_text().strip() if yama.exists() else "0"
    if scope == "3":
        return (
            "this kernel forbids all attaching until it is rebooted (ptrace_scope 3): start the job with `torchtop run`"
        )
    if scope in ("1", "2") and os.geteuid() != 0:
        return f"attaching to a running process is kept for root here (ptrace_scope {scope}): {attach}"
    if os.geteuid() == 0:
        return (
            f"root may not attach to process {pid} here ({error.strerror}): give this container the right "
            "(docker --cap-add SYS_PTRACE), or start the job with `torchtop run`"
        )
    return f"process {pid} may not be attached to ({error.strerror}), it may be marked non-dumpable: {attach}"
