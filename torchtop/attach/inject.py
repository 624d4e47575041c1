"""Have the target's own interpreter start a thread of ours at its next safe point.

The stopped main thread is made to call `Py_AddPendingCall(code, page)` and nothing else: that function takes one tiny
lock and stores two pointers in a fixed array, so no malloc, no dlopen, no GIL and no Python happens on the hijacked
thread. The interpreter makes the pending call itself, between two bytecodes of the main thread (payload.py).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from torchtop.attach import proc
from torchtop.attach.elf import dynamic_symbols
from torchtop.attach.payload import FUNCTIONS, PAGE, SIZE, Functions, code
from torchtop.attach.permission import check_state, permission_sentence
from torchtop.attach.ptrace import CallTimeout, read_memory, stopped, write_memory
from torchtop.errors import AttachError, NoTarget

_FUNCTIONS = ("Py_AddPendingCall", "PyErr_CheckSignals", *FUNCTIONS)
_LIBC = re.compile(r"/(libc[.-][^/]*|ld-[^/]*)$")


class Interpreter(NamedTuple):
    """Addresses in the target that one injection needs."""

    add_pending_call: int
    check_signals: int
    functions: Functions
    syscall_gadget: int
    trap: int


class Injection(NamedTuple):
    """A text that waits in the target for its interpreter."""

    pid: int
    page: int
    text: bytes
    pause_s: float

    def cancel(self) -> None:
        """Make the text empty: when its turn comes, nothing runs. The pages themselves have to stay.

        A connector that has run meanwhile unmaps them, and something else may lie there: nothing is written then.
        """
        if read_memory(self.pid, self.page, len(self.text)) == self.text:
            write_memory(self.pid, self.page, b"\0")


def find_interpreter(pid: int) -> Interpreter:
    """Locate CPython's C API, a `syscall` instruction and a trap byte in the memory of `pid`."""
    maps = proc.mappings(pid)
    starts: dict[str, int] = {}
    for mapping in maps:
        if mapping.path.startswith("/"):
            starts.setdefault(mapping.path, mapping.start)
    executable = os.readlink(proc.PROC / str(pid) / "exe")
    candidates = [path for path in starts if "libpython" in os.path.basename(path)]
    if executable in starts:
        candidates.append(executable)
    for path in candidates:
        file = proc.PROC / str(pid) / "exe" if path == executable else proc.inside(pid, path)
        symbols = _python_symbols(file, path)
        if symbols:
            base = starts[path]
            gadget, trap = _instructions(pid, maps)
            add, check, *others = (base + symbols[name] for name in _FUNCTIONS)
            return Interpreter(add, check, Functions(*others), gadget, trap)
    raise AttachError(
        f"process {pid} is no CPython with exported symbols: neither a libpython nor its executable "
        f"({executable}) has Py_AddPendingCall; start the job with `torchtop run` instead"
    )


def _python_symbols(file: Path, path: str) -> dict[str, int]:
    try:
        facts = file.stat()
        return _cached_symbols(str(file), path, facts.st_ino, facts.st_mtime_ns)
    except (OSError, ValueError):
        return {}


@lru_cache(maxsize=32)
def _cached_symbols(file: str, path: str, inode: int, changed_ns: int) -> dict[str, int]:
    found = dynamic_symbols(Path(file), _FUNCTIONS)
    return found if len(found) == len(_FUNCTIONS) else {}


def _instructions(pid: int, maps: list[proc.Mapping]) -> tuple[int, int]:
    """Addresses of an existing `syscall` instruction and of an existing int3 byte, in vdso or libc."""
    gadget = trap = 0
    with open(proc.PROC / str(pid) / "mem", "rb", buffering=0) as memory:
        for mapping in sorted(maps, key=lambda m: m.path != "[vdso]"):
            if "x" not in mapping.permissions or not (mapping.path == "[vdso]" or _LIBC.search(mapping.path)):
                continue
            memory.seek(mapping.start)
            code = memory.read(min(mapping.end - mapping.start, 2 << 20))
            if not gadget and (at := code.find(b"\x0f\x05")) >= 0:
                gadget = mapping.start + at
            if not trap and (at := code.find(b"\xcc")) >= 0:
                trap = mapping.start + at
            if gadget and trap:
                return gadget, trap
    raise AttachError(f"no system call instruction was found in process {pid}: is it an x86-64 Linux program?")


def inject(pid: int, text_at: Callable[[int], bytes]) -> Injection:
    """Queue the run of a text (see payload.py) by a thread of `pid`.

    text_at: makes the text, given the address at which it will lie. It runs while the main thread is stopped, for
    about half a millisecond; other threads are not stopped. Raises `AttachError` with the cause, `NoTarget` when the
    process is gone.
    """
    check_state(pid)
    try:
        interpreter = find_interpreter(pid)
        began = time.perf_counter()
        with stopped(pid, pid) as thread:
            page = thread.map_page(SIZE, interpreter.syscall_gadget)
            queued = False
            try:
                text = text_at(page)
                write_memory(pid, page, text + b"\0")
                write_memory(pid, page + PAGE, code(page, interpreter.functions))
                thread.make_executable(page + PAGE, PAGE, interpreter.syscall_gadget)
                answer = thread.call(interpreter.add_pending_call, page + PAGE, page, return_to=interpreter.trap)
                queued = answer == 0
            except CallTimeout:
                # It may have been queued just before the time was up, so the pages have to stay: make them harmless.
                queued = True
                write_memory(pid, page, b"\0")
                raise AttachError(
                    f"process {pid} did not take the call in {thread.timeout_s:g} s (it holds the lock of its own "
                    "pending calls); it was put back as it was: try again"
                ) from None
            finally:
                if not queued:
                    thread.unmap_page(page, SIZE, interpreter.syscall_gadget)
            if not queued:
                raise AttachError(f"the queue of pending calls of process {pid} is full: try again in a second")
        return Injection(pid, page, text, time.perf_counter() - began)
    except PermissionError as error:
        raise AttachError(permission_sentence(pid, error)) from None
    except (FileNotFoundError, ProcessLookupError):
        raise NoTarget(f"process {pid} ended while it was being attached to") from None
    except CallTimeout:
        raise AttachError(
            f"the main thread of process {pid} could not be stopped in 2 s; it runs on untouched"
        ) from None


def remind(pid: int, wake: bool) -> None:
    """Have the main thread of `pid` look at its pending calls once more.

    CPython <= 3.12 computes its eval breaker in several steps (COMPUTE_EVAL_BREAKER in ceval_gil): a stop that falls
    between them lets the thread overwrite the mark that says a call is pending, and in a quiet process nothing sets it
    again. So another call is queued, one that does nothing: `PyErr_CheckSignals`. And a main thread in `Thread.join` or `Event.wait` runs no bytecode at all, but looks at pending calls whenever
    such a wait is interrupted (acquire_timed in _threadmodule.c): with `wake`, it is.
    """
    try:
        interpreter = find_interpreter(pid)
        with stopped(pid, pid) as thread:
            thread.call(interpreter.add_pending_call, interpreter.check_signals, 0, return_to=interpreter.trap)
            if wake:
                thread.end_futex_wait()
    except (OSError, CallTimeout):
        return  # gone, or not to be had now: the wait for a safe point goes on and has its own end
