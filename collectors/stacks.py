"""Python stacks of the ranks, from `py-spy dump --json` (py-spy 0.4 README; the JSON is its `StackTrace`).

`--nonblocking` reads the target's memory while it runs: no pause for the job, and now and then a torn stack that
py-spy refuses, which is counted and tried again. A dump costs some 50 ms of a core, outside the target.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import ClassVar

import anyio
import msgspec

from torchtop.collectors.base import Polled
from torchtop.errors import Unavailable
from torchtop.record import Sample, StackFrame, StackSample

TIMEOUT_S = 10.0  # a dump takes 50 ms; the symbols of a large libpython on a cold network disk take seconds


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
    """Every thread of every rank, once per `period_s`.

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

    def follow(self, rank_pids: tuple[int, ...]) -> None:
        """Read these ranks from now on."""
        self._rank_pids = rank_pids

    async def open(self) -> None:
        found = shutil.which(self._wanted) if self._wanted else find_py_spy()
        if found is None:
            raise Unavailable("py-spy is not installed: pip install py-spy")
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

    @staticmethod
    def expected_failures() -> tuple[type[Exception], ...]:
        return (msgspec.DecodeError,)
