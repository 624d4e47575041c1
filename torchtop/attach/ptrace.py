"""One stopped thread of another process: registers, memory, and calls made in its name.

Source: ptrace(2), process_vm_readv(2), linux/ptrace.h. x86-64 only. The thread is seized, never SIGSTOPped, and
the other threads run on, so that a lock that one of them holds is released while we wait for it. All signals but
the synchronous ones stay pending in the kernel meanwhile (PTRACE_SETSIGMASK) and reach the program afterwards
unchanged: a Ctrl-C is never lost.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple, TypeVar

from torchtop.errors import AttachError

_SINGLESTEP, _CONT, _DETACH = 9, 7, 17
_GETREGS, _SETREGS = 12, 13
_GETREGSET, _SETREGSET = 0x4204, 0x4205
_SEIZE, _INTERRUPT = 0x4206, 0x4207
_GETSIGMASK, _SETSIGMASK = 0x420A, 0x420B
_EVENT_STOP = 128
_WALL = 0x40000000
_NT_X86_XSTATE = 0x202
_SPIN_S = 0.0005  # s of asking without sleeping
_XSTATE_ROOM = 32768  # bytes; AVX-512 takes 2,696, AMX tiles another 8,192

_SYNCHRONOUS = (signal.SIGTRAP, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
# A blocked synchronous signal is forced by the kernel with its handler reset to default: it would outlive us.
_MASK_ALL_BUT_SYNCHRONOUS = ((1 << 64) - 1) & ~sum(1 << (number - 1) for number in _SYNCHRONOUS)

_SYS_MMAP, _SYS_MPROTECT, _SYS_MUNMAP, _SYS_FUTEX = 9, 10, 11, 202
_EPOLLS = _SYS_EPOLL_WAIT, _SYS_EPOLL_PWAIT, _SYS_EPOLL_PWAIT2 = 232, 281, 441
_FUTEX_WAIT, _FUTEX_WAIT_BITSET = 0, 9
_RESTARTS = (-512, -513, -514, -516)  # ERESTARTSYS, -NOINTR, -NOHAND, _RESTARTBLOCK of linux/errno.h
_ERESTARTNOHAND = 514  # of them: again from the start, or EINTR if a signal has a handler
_NO_SYSCALL = (1 << 64) - 1  # orig_rax: nothing to restart
_RED_ZONE = 128  # bytes below the stack pointer that a leaf function may be using (System V ABI 3.2.2)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.process_vm_writev.restype = _libc.process_vm_readv.restype = ctypes.c_ssize_t


_REGISTERS = """r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss
    fs_base gs_base ds es fs gs"""


class Registers(ctypes.Structure):
    """struct user_regs_struct of sys/user.h, in its order."""

    _fields_ = [(name, ctypes.c_ulonglong) for name in _REGISTERS.split()]


class _IoVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class Place(NamedTuple):
    """Where in its code a thread waits, as /proc/PID/syscall shows it too."""

    number: int
    stack: int
    instruction: int


class CallTimeout(Exception):
    """An injected call did not return in time; the thread was put back where it was."""


def _request(request: int, tid: int, address: int = 0, data: int = 0) -> None:
    ctypes.set_errno(0)
    if _libc.ptrace(request, tid, address, data) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace request {request:#x} on thread {tid}: {os.strerror(number)}")


def write_memory(pid: int, address: int, data: bytes) -> None:
    """Copy `data` into the memory of `pid`. Needs ptrace permission, not a stopped process."""
    local = ctypes.create_string_buffer(data, len(data))
    source = _IoVec(ctypes.cast(local, ctypes.c_void_p), len(data))
    target = _IoVec(address, len(data))
    written = _libc.process_vm_writev(pid, ctypes.byref(source), 1, ctypes.byref(target), 1, 0)
    if written != len(data):
        number = ctypes.get_errno()
        raise OSError(number, f"writing {len(data)} bytes into process {pid}: {os.strerror(number)}")


def read_memory(pid: int, address: int, size: int) -> bytes:
    """Copy `size` bytes out of the memory of `pid`; fewer when less is mapped there."""
    local = ctypes.create_string_buffer(size)
    source, target = _IoVec(address, size), _IoVec(ctypes.addressof(local), size)
    got = _libc.process_vm_readv(pid, ctypes.byref(target), 1, ctypes.byref(source), 1, 0)
    return local.raw[: max(got, 0)]


class StoppedThread:
    """A thread in a ptrace stop, with everything that has to be as it was when it goes on."""

    def __init__(self, pid: int, tid: int, timeout_s: float) -> None:
        self.pid = pid
        self.tid = tid
        self.timeout_s = timeout_s
        self.signals_held: list[int] = []
        self._saved = Registers()
        self._xstate = ctypes.create_string_buffer(_XSTATE_ROOM)
        self._xstate_vector = _IoVec(ctypes.addressof(self._xstate), _XSTATE_ROOM)
        self._mask = ctypes.c_uint64()
        self._saved_whole = False
        self._altered = False

    def interrupted_syscall(self) -> Place | None:
        """The system call that the stop interrupted, None when there is none."""
        number = ctypes.c_longlong(self._saved.orig_rax).value
        result = ctypes.c_longlong(self._saved.rax).value
        interrupted = result in _RESTARTS or (number in _EPOLLS and result == -errno.EINTR)
        return Place(number, self._saved.rsp, self._saved.rip) if number >= 0 and interrupted else None

    def end_futex_wait(self) -> bool:
        """Let the futex wait that was interrupted return EINTR instead of being restarted; False if it was none.

        Whoever waits on a futex must expect that: any signal with a handler that was installed without SA_RESTART
        does it, and Python installs its own so.
        """
        place = self.interrupted_syscall()
        if place is None or place.number != _SYS_FUTEX:
            return False
        if self._saved.rsi & 0x7F not in (_FUTEX_WAIT, _FUTEX_WAIT_BITSET):
            return False
        self._saved.rax = (1 << 64) - errno.EINTR
        self._saved.orig_rax = _NO_SYSCALL
        self._altered = True
        return True

    def map_page(self, size: int, gadget: int) -> int:
        """Map `size` bytes of private memory, readable and writable, and return the address."""
        address = self._syscall(gadget, _SYS_MMAP, 0, size, 3, 0x22, _NO_SYSCALL, 0)
        if address > (1 << 64) - 4096:
            raise AttachError(f"the target could not map a page of memory ({os.strerror((1 << 64) - address)})")
        return address

    def make_executable(self, address: int, size: int, gadget: int) -> None:
        """Turn mapped memory from writable into executable; `AttachError` where the system forbids that."""
        failed = self._syscall(gadget, _SYS_MPROTECT, address, size, 5)
        if failed:
            why = os.strerror((1 << 64) - failed)
            raise AttachError(
                f"the target may not have new executable memory ({why}): start the job with `torchtop run` instead"
            )

    def unmap_page(self, address: int, size: int, gadget: int) -> None:
        """Undo `map_page`."""
        self._syscall(gadget, _SYS_MUNMAP, address, size)

    def call(self, function: int, *arguments: int, return_to: int) -> int:
        """Call a C function with up to two integer arguments and return what it left in rax.

        `return_to` is the address of an existing trap byte: the call ends there. Raises `CallTimeout`.
        """
        registers = self._scratch()
        stack = ((self._saved.rsp - _RED_ZONE - 4096) & ~15) - 8  # as after a call instruction
        write_memory(self.pid, stack, struct.pack("<Q", return_to))
        registers.rsp, registers.rip, registers.rax = stack, function, 0
        registers.rdi, registers.rsi = (*arguments, 0, 0)[:2]
        self._run(registers, _CONT, ends=(return_to, return_to + 1))
        return int(registers.rax)

    def _syscall(self, gadget: int, number: int, *arguments: int) -> int:
        """Execute one existing `syscall` instruction by a single step; no code of the target is changed."""
        registers = self._scratch()
        registers.rax, registers.rip = number, gadget
        for register, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), arguments, strict=False):
            setattr(registers, register, value)
        self._run(registers, _SINGLESTEP, ends=())
        return int(registers.rax)

    def _scratch(self) -> Registers:
        registers = Registers.from_buffer_copy(self._saved)
        registers.orig_rax = _NO_SYSCALL
        return registers

    def _run(self, registers: Registers, request: int, ends: tuple[int, ...]) -> None:
        self._altered = True
        _request(_SETREGS, self.tid, 0, ctypes.addressof(registers))
        while True:
            _request(request, self.tid)
            status = self._wait()
            _request(_GETREGS, self.tid, 0, ctypes.addressof(registers))
            if status >> 16:
                continue  # a ptrace event, not an end of the call
            number = os.WSTOPSIG(status)
            if number == signal.SIGTRAP and (request == _SINGLESTEP or registers.rip in ends):
                return
            if number == signal.SIGSEGV and registers.rip in ends:
                return  # the trap byte was not executable after all: same end
            if number in _SYNCHRONOUS:
                raise AttachError(f"the injected call ended with signal {number}; the target was put back untouched")
            self.signals_held.append(number)

    def _wait(self) -> int:
        began = time.monotonic()
        pause = 0.0001
        while True:
            tid, status = os.waitpid(self.tid, os.WNOHANG | _WALL)
            if tid:
                if os.WIFEXITED(status) or os.WIFSIGNALED(status):
                    raise AttachError("the target ended while it was being attached to")
                return status
            waited = time.monotonic() - began
            if waited > self.timeout_s:
                raise CallTimeout
            # A stop takes some ten microseconds: to sleep at once would cost the target a time slice of ours.
            if waited > _SPIN_S:
                time.sleep(pause)
                pause = min(pause * 1.5, 0.002)

    def _stop_seized(self) -> None:
        _request(_INTERRUPT, self.tid)
        while True:
            status = self._wait()
            if status >> 16 == _EVENT_STOP:
                break
            # A signal got in before our stop. It is delivered now; and as any stop cancels a pending interrupt
            # (ptrace_stop in kernel/signal.c), the interrupt has to be asked for again.
            _request(_CONT, self.tid, 0, os.WSTOPSIG(status))
            _request(_INTERRUPT, self.tid)
        _request(_GETREGS, self.tid, 0, ctypes.addressof(self._saved))
        _request(_GETREGSET, self.tid, _NT_X86_XSTATE, ctypes.addressof(self._xstate_vector))
        _request(_GETSIGMASK, self.tid, 8, ctypes.addressof(self._mask))
        self._saved_whole = True
        self._restart_epoll()
        mask = ctypes.c_uint64(_MASK_ALL_BUT_SYNCHRONOUS)
        _request(_SETSIGMASK, self.tid, 8, ctypes.addressof(mask))

    def _restart_epoll(self) -> None:
        """Let an endless epoll_wait go on where it was.

        Of all that a program waits in, this alone fails with EINTR for a stop without any signal (signal(7)). Python
        calls it again by itself; not every C library does. With a time limit it is left so: a restart would begin the
        whole time anew.
        """
        saved = self._saved
        endless = (
            saved.orig_rax in (_SYS_EPOLL_WAIT, _SYS_EPOLL_PWAIT) and ctypes.c_int(saved.r10 & 0xFFFFFFFF).value < 0
        ) or (saved.orig_rax == _SYS_EPOLL_PWAIT2 and saved.r10 == 0)
        if endless and ctypes.c_longlong(saved.rax).value == -errno.EINTR:
            saved.rax = (1 << 64) - _ERESTARTNOHAND
            self._altered = True

    def _resume(self) -> None:
        """Put everything back, in whatever state an injected call was left, and let go.

        Letting go needs a stopped thread, and leaving an altered one behind would kill it: so this waits as long as the
        thread takes to stop. One that never stopped is in uninterruptible sleep, perhaps for hours, and was not
        altered: the kernel lets go of it when our own thread ends (`surgeon`).
        """
        undelivered = 0
        began = time.monotonic()
        while True:
            try:
                self._put_back()
                _request(_DETACH, self.tid, 0, undelivered)
                break
            except OSError as error:
                if error.errno != errno.ESRCH or not os.path.exists(f"/proc/{self.pid}/task/{self.tid}"):
                    return  # it is gone, and with it what was to be put back
                if not self._saved_whole and time.monotonic() - began > self.timeout_s:
                    return
                with suppress(CallTimeout, OSError):
                    _request(_INTERRUPT, self.tid)
                    status = self._wait()
                    # Stopped on its way to a signal handler: the signal goes with it, else it would be lost.
                    undelivered = 0 if status >> 16 else os.WSTOPSIG(status)
        for number in self.signals_held:
            os.kill(self.pid, number)

    def _put_back(self) -> None:
        if not self._saved_whole:
            return
        if self._altered:
            _request(_SETREGSET, self.tid, _NT_X86_XSTATE, ctypes.addressof(self._xstate_vector))
            _request(_SETREGS, self.tid, 0, ctypes.addressof(self._saved))
        _request(_SETSIGMASK, self.tid, 8, ctypes.addressof(self._mask))


@contextmanager
def stopped(pid: int, tid: int, timeout_s: float = 2.0) -> Iterator[StoppedThread]:
    """Hold thread `tid` of `pid` still for the body, then let it go exactly as it was. Only within `surgeon`.

    Raises OSError (EPERM, ESRCH) when it may not be seized, `CallTimeout` when it did not stop in time.
    """
    thread = StoppedThread(pid, tid, timeout_s)
    seized = False
    try:
        _request(_SEIZE, tid)
        seized = True
        thread._stop_seized()
        yield thread
    finally:
        if seized:
            thread._resume()


_T = TypeVar("_T")


def surgeon(operation: Callable[[], _T]) -> _T:
    """Run `operation` in a thread of its own and return what it returns, or raise what it raises.

    The kernel counts a tracer by thread: whatever is still seized when this one ends is let go. And a Ctrl-C of ours
    never lands in the middle of an operation.
    """
    results: list[_T] = []
    problems: list[BaseException] = []

    def run() -> None:
        try:
            results.append(operation())
        except BaseException as problem:  # noqa: BLE001  # raised again below, in the thread that waits for it
            problems.append(problem)

    thread = threading.Thread(target=run, name="surgeon")
    thread.start()
    thread.join()
    if problems:
        raise problems[0]
    return results[0]
