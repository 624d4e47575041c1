"""Have the target start a thread of ours: by its own interpreter at its next safe point, or directly from a sleep.

Mostly the stopped main thread is made to call `Py_AddPendingCall(code, page)` and nothing else: that function takes one
tiny lock and stores two pointers in a fixed array, so no malloc, no dlopen, no GIL and no Python happens on the hijacked
thread. The interpreter makes the pending call itself, between two bytecodes of the main thread (payload.py).

A main thread that sleeps for an hour comes to no bytecode for an hour. Where it sleeps in a system call in which it can
hold none of the locks that this takes (asleep.py), it is made to call `PyThread_start_new_thread` instead.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from torchtop.attach import c_api, proc
from torchtop.attach.c_api import CApi, Unsuited
from torchtop.attach.payload import PAGE, SIZE, code, pending_call, thread
from torchtop.attach.permission import check_state, permission_sentence
from torchtop.attach.ptrace import CallTimeout, Place, StoppedThread, read_memory, stopped, surgeon, write_memory
from torchtop.errors import AttachError, NoTarget

PENDING, DIRECT = "ptrace", "ptrace-thread"
# s for libc to start a thread: put back in the middle of that, the target could be left with a lock held.
_THREAD_S = 30.0
_INVALID_THREAD = (1 << 64) - 1
_UNSUITED = (errno.EIO, errno.EINVAL, errno.ENOSYS, errno.ENODEV)


# s between tries while another torchtop, or py-spy, holds it stopped: a matter of some ms.
_TRACED_S = (0.005, 0.02, 0.05)
_TRACER_S = 1.0  # s after which who traces it is there to stay


class Moved(Exception):
    """The main thread does not sleep where it did; nothing was done."""


class Injection(NamedTuple):
    """A text that waits in the target for its interpreter."""

    pid: int
    page: int
    text: bytes
    pause_s: float | None
    method: str

    def cancel(self) -> str | None:
        """Have the text do nothing when its turn comes; returns what is left until then, None if nothing is.

        A pending call cannot be taken back, so the pages have to stay until it was made. It then only unmaps them
        (payload.py). A connector that has run meanwhile unmaps them itself, and something else may lie there: nothing
        is written then.
        """
        if read_memory(self.pid, self.page, len(self.text)) != self.text:
            return None
        write_memory(self.pid, self.page, b"\0")
        return f"{SIZE // 1024} KiB of memory stay mapped in it until it comes to one, and go then"


def check_settled(pid: int) -> None:
    """`check_state`, once whoever traces `pid` has had time to leave again: another torchtop, or py-spy, takes some ms."""
    deadline = time.monotonic() + _TRACER_S
    while True:
        try:
            check_state(pid)
            return
        except AttachError:
            # Asked only now: the one that was in the way may have gone, and the next have come.
            with suppress(OSError):
                status = proc.status(pid)
                if time.monotonic() < deadline and (status.tracer_pid or status.state in "RSt"):
                    time.sleep(0.002)
                    continue
            raise


def inject(pid: int, text_at: Callable[[int], bytes]) -> Injection:
    """Queue the run of a text (see payload.py) by a thread of `pid`.

    text_at: makes the text, given the address at which it will lie. It runs while the main thread is stopped, for
    about half a millisecond; other threads are not stopped. Raises `AttachError` with the cause, `Unsuited` before
    anything was touched, `NoTarget` when the process is gone.
    """

    def queue(stop: StoppedThread, page: int, functions: CApi, trap: int) -> bool:
        answer = stop.call(functions.add_pending_call, pending_call(page), page, return_to=trap)
        return answer & 0xFFFFFFFF == 0  # a C int

    return _operate(pid, text_at, PENDING, queue, f"the queue of pending calls of process {pid} is full")


def inject_thread(pid: int, text_at: Callable[[int], bytes], place: Place) -> Injection:
    """Start the thread from the main thread of `pid`, which sleeps at `place` (asleep.py).

    Raises `Moved` when it does not any more, else what `inject` raises. The system call goes on with the time that is
    left of it.
    """

    def start(stop: StoppedThread, page: int, functions: CApi, trap: int) -> bool:
        stop.timeout_s = _THREAD_S
        if stop.call(functions.is_initialized, return_to=trap) & 0xFFFFFFFF == 0:
            raise AttachError(f"the interpreter of process {pid} has ended: the process is about to end, too")
        return stop.call(functions.start_new_thread, thread(page), page, return_to=trap) != _INVALID_THREAD

    return _operate(pid, text_at, DIRECT, start, f"process {pid} could not start one more thread", place)


def _operate(
    pid: int,
    text_at: Callable[[int], bytes],
    method: str,
    hand_over: Callable[[StoppedThread, int, CApi, int], bool],
    refused: str,
    place: Place | None = None,
) -> Injection:
    """Stop the main thread, put text and code into new pages, and let `hand_over` have them run."""
    touched = False
    check_settled(pid)
    try:
        c_api.check_architecture(pid)
        functions, gadget, trap = c_api.layout(pid)

        def operation() -> Injection:
            nonlocal touched
            began = time.perf_counter()
            with stopped(pid, pid) as stop:
                if place is not None and stop.interrupted_syscall() != place:
                    raise Moved
                touched = True
                page = stop.map_page(SIZE, gadget)
                taken = False
                try:
                    text = text_at(page)
                    write_memory(pid, page, text + b"\0")
                    write_memory(pid, page + PAGE, code(page, functions))
                    stop.make_executable(page + PAGE, PAGE, gadget)
                    taken = hand_over(stop, page, functions, trap)
                except CallTimeout:
                    # It may have been taken just before the time was up, so the pages have to stay: make them harmless.
                    taken = True
                    write_memory(pid, page, b"\0")
                    raise AttachError(
                        f"process {pid} did not take the call in {stop.timeout_s:g} s (another of its threads holds a "
                        "lock that it needs); it was put back as it was: try again"
                    ) from None
                finally:
                    if not taken:
                        stop.unmap_page(page, SIZE, gadget)
                if not taken:
                    raise AttachError(f"{refused}: try again in a second")
            return Injection(pid, page, text, time.perf_counter() - began, method)

        for patience in _TRACED_S:
            try:
                return surgeon(operation)
            except PermissionError:
                time.sleep(patience)
        return surgeon(operation)
    except PermissionError as error:
        raise AttachError(permission_sentence(pid, error)) from None
    except (FileNotFoundError, ProcessLookupError):
        raise NoTarget(f"process {pid} ended while it was being attached to") from None
    except OSError as error:
        if error.errno in _UNSUITED and not touched:
            raise Unsuited(f"this system does not let process {pid} be stopped in the usual way ({error})") from None
        raise AttachError(f"process {pid} could not be attached to: {error}") from None
    except CallTimeout:
        raise AttachError(
            f"the main thread of process {pid} could not be stopped in 2 s: it is in uninterruptible sleep (disk or "
            "driver), untouched: try again when it has left it"
        ) from None


def remind(pid: int, wake: bool) -> None:
    """Have the main thread of `pid` look at its pending calls once more.

    CPython <= 3.12 computes its eval breaker in several steps (COMPUTE_EVAL_BREAKER in ceval_gil): a stop that falls
    between them lets the thread overwrite the mark that says a call is pending, and in a quiet process nothing sets it
    again. So another call is queued, one that does nothing: `PyErr_CheckSignals`. And a main thread in `Thread.join` or
    `Event.wait` runs no bytecode at all, but looks at pending calls whenever such a wait is interrupted (acquire_timed
    in _threadmodule.c): with `wake`, it is.
    """

    def operation() -> None:
        functions, _, trap = c_api.layout(pid)
        with stopped(pid, pid) as stop:
            stop.call(functions.add_pending_call, functions.check_signals, 0, return_to=trap)
            if wake:
                stop.end_futex_wait()

    try:
        surgeon(operation)
    except (OSError, CallTimeout, AttachError):
        return  # gone, or not to be had now: the wait for a safe point goes on and has its own end
