"""Python stacks of the ranks: one of every thread from time to time (`py-spy dump --json`, py-spy 0.4 README; the JSON
is its `StackTrace`), and on demand many of one thread (`py-spy record --format raw`).

`--nonblocking` reads the target's memory while it runs: no pause for the job, and now and then a torn stack that
py-spy refuses, which is counted and tried again. A dump costs some 50 ms of a core, outside the target; a burst of 2 s
at 20 samples a second costs 20 ms of a core.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import ClassVar

import anyio
import msgspec

from torchtop.attach import proc
from torchtop.collectors.base import Polled
from torchtop.errors import Unavailable
from torchtop.record import Sample, StackBurst, StackFrame, StackSample, StackTally

TIMEOUT_S = 10.0  # a dump takes 50 ms; the symbols of a large libpython on a cold network disk take seconds
RATE_HZ = 20  # of a burst. py-spy draws its intervals by lot, so steps of 50 ms are not always met at the same place
_NOT_INSTALLED = "py-spy is not installed: pip install py-spy"
_MAIN = "MainThread"

# "thread (ID): NAME;outermost (FILE:LINE);...;innermost (FILE:LINE) COUNT"; ID is in hex where it is no kernel id.
_LINE = re.compile(r"thread \((\w+)\)(?:: (.*?))?((?:;.*)?) (\d+)")
_FRAME = re.compile(r"(.*?) \((.*):(\d+)\)")


class Frame(msgspec.Struct):
    """The fields of py-spy's `Frame` that are used."""

    name: str
    filename: str
    line: int


class Thread(msgspec.Struct):
    """The fields of py-spy's `StackTrace` that are used; `os_thread_id` is null where the platform hides it."""

    thread_id: int
    active: bool
    frames: list[Frame]
    thread_name: str | None = None
    os_thread_id: int | None = None


def parse(text: str | bytes, rank_pid: int, t: float) -> tuple[StackSample, ...]:
    """One sample for each thread, innermost frame first. Raises `msgspec.DecodeError` on anything but a dump.

    The main thread is the one whose kernel id is the pid; in a PID namespace no id is, and the name decides.
    """
    threads = msgspec.json.decode(text, type=list[Thread])
    by_tid = any(thread.os_thread_id == rank_pid for thread in threads)
    return tuple(
        StackSample(
            t=t,
            rank_pid=rank_pid,
            thread=thread.thread_name or f"thread {thread.os_thread_id or thread.thread_id}",
            tid=thread.os_thread_id,
            main=thread.os_thread_id == rank_pid if by_tid else thread.thread_name == "MainThread",
            active=thread.active,
            frames=tuple(StackFrame(function=f.name, file=f.filename, line=f.line) for f in thread.frames),
        )
        for thread in threads
    )


def parse_burst(text: str, pid: int, tid: int | None, tid_is_main: bool = False) -> tuple[StackTally, ...]:
    """How often each stack of one thread was seen, most frequent first. tid: None for the main thread.

    Raises ValueError when the samples do not say which ones are of that thread. Samples without a Python frame (a
    thread that begins or ends) are left out. py-spy writes what it has to say to the same stream: no line of a stack.
    """
    found = [line for line in map(_LINE.fullmatch, text.splitlines()) if line is not None]
    ids = {line[1] for line in found if line[1].isdecimal()}
    wanted = str(pid if tid is None else tid)
    if wanted in ids:
        ours = [line for line in found if line[1] == wanted]
    elif tid is None or (tid_is_main and not ids):
        # In a PID namespace no id is the pid; before Python 3.11 none is known without stopping the target.
        ours = [line for line in found if line[2] == _MAIN]
    elif not ids and found:
        raise ValueError(
            "py-spy does not tell threads apart before Python 3.11, and it is not the main one that trains"
        )
    else:
        raise ValueError(f"thread {tid} of process {pid} was not seen")
    frames: dict[str, StackFrame] = {}
    counted: dict[tuple[StackFrame, ...], int] = {}
    for line in ours:
        stack = tuple(frame for frame in (_frame(part, frames) for part in reversed(line[3].split(";"))) if frame)
        if stack:
            counted[stack] = counted.get(stack, 0) + int(line[4])
    if not counted:
        raise ValueError(f"process {pid} ran no Python")
    most = sorted(counted.items(), key=lambda one: -one[1])
    return tuple(StackTally(frames=stack, count=count) for stack, count in most)


def _frame(text: str, known: dict[str, StackFrame]) -> StackFrame | None:
    """None for what is no frame: a part of a thread's name, or a frame without a line."""
    if text not in known:
        found = _FRAME.fullmatch(text)
        if found is None:
            return None
        known[text] = StackFrame(function=found[1], file=found[2], line=int(found[3]))
    return known[text]


def main_line(pid: int) -> str | None:
    """Where the main thread of `pid` is, "function (file:line)"; None if py-spy cannot tell. Takes 50 ms and blocks."""
    py_spy = find_py_spy()
    if py_spy is None:
        return None
    try:
        dump = subprocess.run(_command(py_spy, pid), capture_output=True, check=True, timeout=TIMEOUT_S).stdout
        threads = parse(dump, pid, 0.0)
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError):
        return None
    inner = next((thread.frames[0] for thread in threads if thread.main and thread.frames), None)
    return f"{inner.function} ({inner.file}:{inner.line})" if inner is not None else None


def _command(py_spy: str, pid: int) -> list[str]:
    return [py_spy, "dump", "--json", "--nonblocking", "--pid", str(pid)]


def _burst_command(py_spy: str, pid: int, seconds: int) -> list[str]:
    how = ["--nonblocking", "--idle", "--threads", "--full-filenames", "--format", "raw", "--output", "/dev/stdout"]
    return [py_spy, "record", *how, "--rate", str(RATE_HZ), "--duration", str(seconds), "--pid", str(pid)]


def failure(stderr: str, pid: int) -> OSError:
    """What py-spy's last words mean, as an exception with a sentence for the health row."""
    if "permission denied" in stderr.lower():
        return PermissionError(
            f"py-spy may not read process {pid}: run torchtop as root, or as the same user "
            "with kernel.yama.ptrace_scope=0; in a container add --cap-add SYS_PTRACE"
        )
    lines = stderr.strip().splitlines() or ["it gave no reason"]
    return OSError(f"py-spy could not read process {pid}: {lines[0].removeprefix('Error: ')}")


def find_py_spy() -> str | None:
    """Path of py-spy: of this interpreter's environment first, else of PATH."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("py-spy")


class StacksCollector(Polled):
    """Every thread of every rank, once per `period_s`; `burst` looks closer at one thread.

    The ranks take turns within the period: one dump at a time, and a failure that names its rank.
    """

    name: ClassVar[str] = "stacks"

    def __init__(
        self,
        rank_pids: tuple[int, ...],
        period_s: float = 5.0,
        first_delay_s: float = 1.0,
        executable: str | None = None,
    ) -> None:
        super().__init__(period_s / max(1, len(rank_pids)))
        self._rank_pids = rank_pids
        self._first_delay_s = first_delay_s
        self._wanted = executable
        self._py_spy = ""
        self._turn = 0
        self._one_burst = anyio.Lock()

    def follow(self, rank_pids: tuple[int, ...]) -> None:
        """Read these ranks from now on."""
        self._rank_pids = rank_pids

    async def open(self) -> None:
        found = shutil.which(self._wanted) if self._wanted else find_py_spy()
        if found is None:
            raise Unavailable(_NOT_INSTALLED)
        self._py_spy = found

    async def samples(self) -> AsyncIterator[Sample]:
        """Yield stacks until cancelled. The first dump waits: py-spy and our own attaching must not meet."""
        await anyio.sleep(self._first_delay_s)
        async for sample in super().samples():
            yield sample

    async def read(self) -> Sequence[StackSample]:
        """The threads of the next rank; nothing if it ended. OSError if py-spy failed or did not answer."""
        if not self._rank_pids:
            return ()
        pid = self._rank_pids[self._turn % len(self._rank_pids)]
        self._turn += 1
        t = time.monotonic()
        with anyio.move_on_after(TIMEOUT_S) as scope:
            dump = await anyio.run_process(_command(self._py_spy, pid), check=False)
        if scope.cancelled_caught:
            raise TimeoutError(f"py-spy did not finish with process {pid} within {TIMEOUT_S:.0f} s")
        if dump.returncode == 0:
            return parse(dump.stdout, pid, t)
        if not Path(f"/proc/{pid}").exists():
            return ()
        raise failure(dump.stderr.decode(errors="replace"), pid)

    async def burst(self, pid: int, tid: int | None, seconds: float) -> StackBurst:
        """Sample one thread for `seconds` (rounded up to whole ones), beside the dumps; bursts wait for one another.

        pid: a rank, or one of its loader workers; tid: kernel id of the thread as the target sees it, None for the
        main one. Raises nothing of its own: what went wrong is the `reason` of a burst without samples. Ends py-spy
        when it is cancelled.
        """
        async with self._one_burst:
            began = time.monotonic()
            tallies: tuple[StackTally, ...] = ()
            reason = None
            try:
                tallies = await self._sample(pid, tid, math.ceil(seconds))
            except (OSError, ValueError) as problem:
                reason = str(problem)
            t = time.monotonic()
            return StackBurst(t=t, pid=pid, seconds=t - began, rate_hz=RATE_HZ, tallies=tallies, reason=reason)

    async def _sample(self, pid: int, tid: int | None, seconds: int) -> tuple[StackTally, ...]:
        if not self._py_spy:
            raise FileNotFoundError(_NOT_INSTALLED)
        tid_is_main = tid is not None and tid in proc.status(pid).pids
        with anyio.move_on_after(seconds + TIMEOUT_S) as scope:
            done = await anyio.run_process(_burst_command(self._py_spy, pid, seconds), check=False)
        if scope.cancelled_caught:
            raise TimeoutError(f"py-spy did not finish with process {pid} within {seconds + TIMEOUT_S:.0f} s")
        if done.returncode != 0:
            if not Path(f"/proc/{pid}").exists():
                raise ProcessLookupError(f"process {pid} has ended")
            raise failure(done.stderr.decode(errors="replace"), pid)
        return parse_burst(done.stdout.decode(errors="replace"), pid, tid, tid_is_main)

    @staticmethod
    def expected_failures() -> tuple[type[Exception], ...]:
        return (msgspec.DecodeError,)
