"""The same pending call by way of gdb, for a target that our own ptrace does not fit.

gdb stops all threads, for a second or so. It is told to call `mmap`, `mprotect` and `Py_AddPendingCall`, none of which
allocates; it reads no symbols of shared libraries, sets no breakpoint of ours, and lets every signal through.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from torchtop.attach import c_api, proc
from torchtop.attach.c_api import CApi, Unsuited
from torchtop.attach.inject import Injection, check_settled
from torchtop.attach.payload import PAGE, SIZE, code, pending_call
from torchtop.attach.permission import permission_sentence
from torchtop.attach.ptrace import write_memory
from torchtop.errors import AttachError, NoTarget

METHOD = "gdb"
_ANSWER_S = 60.0  # s for one command: reading the symbols of a large executable takes seconds
_DONE = "torchtop-done"
_SETTINGS = (
    "set confirm off",
    "set pagination off",
    "set width 0",
    "set debuginfod enabled off",
    "set auto-load off",
    "set auto-solib-add off",
    "set unwindonsignal on",
    "handle all nostop noprint pass",
)
_VALUE = re.compile(r"^\$\d+ = (0x[0-9a-f]+)$", re.MULTILINE)


def inject(pid: int, text_at: Callable[[int], bytes]) -> Injection:
    """Queue the run of a text as `torchtop.attach.inject.inject` does; `Unsuited` where there is no gdb."""
    executable = shutil.which("gdb")
    if executable is None:
        raise Unsuited("gdb is not installed")
    check_settled(pid)
    try:
        c_api.check_architecture(pid)
        maps = proc.mappings(pid)
        libc = c_api.memory_functions(pid, maps)
    except PermissionError as error:
        raise AttachError(permission_sentence(pid, error)) from None
    except (FileNotFoundError, ProcessLookupError):
        raise NoTarget(f"process {pid} ended while it was being attached to") from None
    try:
        functions: CApi | None = c_api.find(pid, maps)
    except Unsuited:
        functions = None  # gdb knows symbols that are not exported, too
    began = time.perf_counter()
    with _held(executable, pid) as gdb:
        if functions is None:
            functions = CApi._make([*(gdb.address_of(name) for name in c_api.FUNCTIONS), libc.unmap])
        page = gdb.call(libc.map, 0, SIZE, 3, 0x22, -1, 0)
        if page > (1 << 64) - 4096:
            raise AttachError("the target could not map a page of memory")
        taken = False
        try:
            text = text_at(page)
            write_memory(pid, page, text + b"\0")
            write_memory(pid, page + PAGE, code(page, functions))
            if gdb.call(libc.protect, page + PAGE, PAGE, 5) & 0xFFFFFFFF:
                raise AttachError("the target may not have new executable memory: start the job with `torchtop run`")
            taken = gdb.call(functions.add_pending_call, pending_call(page), page) & 0xFFFFFFFF == 0
        finally:
            if not taken:
                gdb.call(libc.unmap, page, SIZE)
        if not taken:
            raise AttachError(f"the queue of pending calls of process {pid} is full: try again in a second")
    return Injection(pid, page, text, time.perf_counter() - began, METHOD)


@contextmanager
def _held(executable: str, pid: int) -> Iterator[_Gdb]:
    """A gdb that holds `pid` stopped for the body."""
    process = subprocess.Popen(
        [executable, "-nx", "-q", *(part for line in _SETTINGS for part in ("-iex", line))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # a Ctrl-C on the terminal is ours to handle
        env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
    )
    gdb = _Gdb(process, pid)
    try:
        gdb.attach()
        try:
            yield gdb
        finally:
            gdb.detach()
    finally:
        gdb.end()


class _Gdb:
    """A gdb, spoken to by its standard input."""

    def __init__(self, process: subprocess.Popen[bytes], pid: int) -> None:
        self._gdb = process
        self._pid = pid

    def attach(self) -> None:
        """Stop the process. Raises `Unsuited` when gdb cannot."""
        said = self._ask(f"attach {self._pid}")
        if "ptrace:" in said or "not attach" in said:
            self._fail("attach", said)
        # Before gdb 14 none can write the wide registers of a processor with AMX, which it has to after a call.
        self._ask("set $torchtop = $xmm15.v4_int32[3]")
        for value in ("~$torchtop", "$torchtop"):
            said = self._ask(f"set $xmm15.v4_int32[3] = {value}")
            if "Couldn't" in said:
                self._fail("registers", said)

    def detach(self) -> None:
        """Let it go on; nothing to do when gdb has ended."""
        if self._gdb.poll() is None:
            self._ask("detach")

    def call(self, function: int, *arguments: int) -> int:
        """What the function returned, of 64 bits. Raises `Unsuited` when gdb could not make the call."""
        types = ", ".join("long" for _ in arguments)
        values = ", ".join(f"{value}L" for value in arguments)
        return self._value(f"((unsigned long (*)({types})) {function}UL)({values})")

    def address_of(self, name: str) -> int:
        """Where the function lies, by any symbol table that gdb finds."""
        self._ask("sharedlibrary python")
        return self._value(f"(unsigned long) &{name}")

    def _value(self, expression: str) -> int:
        said = self._ask(f"print/x {expression}")
        value = _VALUE.search(said)
        if value is None:
            self._fail(expression, said)
        return int(value[1], 16)

    def _fail(self, what: str, said: str) -> NoReturn:
        last = [line for line in said.splitlines() if line and _DONE not in line] or ["it said nothing"]
        raise Unsuited(f"gdb could not do its part for process {self._pid} ({what}): {last[-1]}")

    def _ask(self, line: str) -> str:
        """Everything that gdb says to one command."""
        assert self._gdb.stdin is not None and self._gdb.stdout is not None
        try:
            self._gdb.stdin.write(f"{line}\necho \\n{_DONE}\\n\n".encode())
            self._gdb.stdin.flush()
        except BrokenPipeError:
            raise Unsuited("gdb has ended unexpectedly") from None
        said = b""
        deadline = time.monotonic() + _ANSWER_S
        while f"\n{_DONE}\n".encode() not in said:
            ready, _, _ = select.select([self._gdb.stdout], [], [], max(0.0, deadline - time.monotonic()))
            part = os.read(self._gdb.stdout.fileno(), 65536) if ready else b""
            if not part:
                raise Unsuited(f"gdb gave no answer to `{line}` in {_ANSWER_S:g} s" if not ready else "gdb has ended")
            said += part
        return said.decode(errors="replace").replace("(gdb) ", "")

    def end(self) -> None:
        """At the end of its input gdb lets go of the process, and so it does on SIGTERM."""
        assert self._gdb.stdin is not None and self._gdb.stdout is not None
        for stop in (self._gdb.stdin.close, self._gdb.terminate, self._gdb.kill):
            try:
                stop()
                self._gdb.wait(10)
                break
            except (BrokenPipeError, subprocess.TimeoutExpired):
                continue
        self._gdb.stdout.close()
