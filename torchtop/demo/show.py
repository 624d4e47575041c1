"""Start a demo in a process of its own, watch it like any other job, show what was seen, and end it."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from torchtop.attach import proc
from torchtop.attach.job import LocalJob, find
from torchtop.demo import DEMOS, Demo
from torchtop.errors import NoTarget, TorchtopError, UsageError
from torchtop.json_writer import JsonWriter
from torchtop.live import LiveJob, live_options, need_terminal
from torchtop.live import show as show_live
from torchtop.session import Options, nothing_measured, watch
from torchtop.snapshot import Snapshot

_WATCHED_S = 10.0  # s that are watched for the printed page, unless told
_START_S = 60.0  # s until PyTorch is loaded, and again until the first step: a cold disk needs most of it
_SETTLED_S = 1.0  # s without a new library or rank: the imports are over
_POLL_S = 0.05
_LOOK_S = 0.5  # s between two looks whether steps have begun, and whether the time is up
_END_S = 10.0  # s to end after SIGTERM; the launcher gives its ranks half of that
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# The launcher has PyTorch too: until its ranks are there, it looks like a job of one rank itself.
_RANKS = {"two-ranks": 2}


def show(name: str | None, list_: bool, headless: bool, duration_s: float | None) -> int:
    """Run the demo `name`, the first one if None, and show it; the exit code. Raises `TorchtopError`.

    On the screen, until its user leaves. Printed instead where there is no terminal, and where a time was given.
    """
    if list_:
        width = max(len(demo.name) for demo in DEMOS)
        for demo in DEMOS:
            print(f"{demo.name:<{width}}  {demo.summary}")
        return 0
    demo = choose(name)
    if importlib.util.find_spec("torch") is None:
        raise UsageError('the demos need PyTorch: run `make demo`, or pip install "torchtop[demo]"')
    on_screen = not headless and duration_s is None and _has_terminal()
    duration_s = duration_s or _WATCHED_S
    sink: JsonWriter | TextWriter = JsonWriter(None, lines=False) if headless else TextWriter()
    _say(f"starting {demo.name}: {demo.summary}")
    with started(demo) as (process, errors):
        job = wait_for_job(demo, process, errors)
        pids = ", ".join(str(rank.pid) for rank in job.ranks)
        _say(f"attaching to {pids}")
        if on_screen:
            options = live_options(None, no_probe=False)
            return show_live(LiveJob(job, options), options, read_only=False)
        options = Options(duration_s=None, every_s=_LOOK_S, horizon_s=duration_s)
        outcome = watch(job, options, FromFirstStep(sink, duration_s).take)
    sink.finish()
    if outcome.interrupted:
        return 130
    problem = nothing_measured(job, outcome)
    if problem is not None:
        raise problem
    return 0


def _has_terminal() -> bool:
    try:
        need_terminal("torchtop demo --headless")
    except UsageError:
        return False
    return True


class FromFirstStep:
    """A sink that hands on to another, and has enough `duration_s` after every rank's first step.

    A demo that still prepares its data when it is attached to would else have no step to show in a short watch.
    """

    def __init__(self, sink: JsonWriter | TextWriter, duration_s: float) -> None:
        self._sink = sink
        self._duration_s = duration_s
        self._began = time.monotonic()
        self._stepped: float | None = None
        self._told = False

    async def take(self, snapshot: Snapshot) -> bool:
        """The session's sink."""
        now = time.monotonic()
        if not self._told:
            self._told = True
            hellos = [rank.attach.hello_s for rank in snapshot.job.ranks if rank.attach is not None]
            known = [hello for hello in hellos if hello is not None]
            took = f" in {1000 * max(known):.0f} ms" if known else ""
            _say(f"attached{took}; watching for {self._duration_s:g} s from the first step on")
        counts = [rank.count for rank in snapshot.steps.by_rank]
        if self._stepped is None and counts and min(counts) > 0:
            self._stepped = now
        await self._sink.take(snapshot)
        if self._stepped is None:
            return now - self._began < _START_S
        return now - self._stepped < self._duration_s


class TextWriter:
    """Prints the last snapshot as one page."""

    def __init__(self) -> None:
        self._last: Snapshot | None = None

    async def take(self, snapshot: Snapshot) -> bool:
        """The session's sink."""
        self._last = snapshot
        return True

    def finish(self) -> None:
        """Print what is due at the end."""
        from rich.console import Console

        from torchtop.tui.summary import render

        if self._last is not None:
            Console().print(render(self._last))


def choose(name: str | None) -> Demo:
    """The demo of that name. Raises `UsageError`."""
    if name is None:
        return DEMOS[0]
    for demo in DEMOS:
        if demo.name == name:
            return demo
    raise UsageError(f"there is no demo {name!r}; there are {', '.join(demo.name for demo in DEMOS)}")


@contextmanager
def started(demo: Demo) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """The running demo and the file that its stderr goes to; ended afterwards, however that comes about."""
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as errors:
        # In a session of its own, Ctrl-C reaches only us, and the demo is detached from before it ends.
        process = subprocess.Popen(
            [sys.executable, "-m", demo.module],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=environment,
            start_new_session=True,
            preexec_fn=_dying_with(os.getpid()),  # noqa: PLW1509 (no other thread runs yet)
        )
        try:
            yield process, errors
        finally:
            _end(process)


def wait_for_job(demo: Demo, process: subprocess.Popen[bytes], errors: IO[bytes]) -> LocalJob:
    """The demo as a job, once all its ranks have loaded all that they load. Raises `TorchtopError` if it died."""
    deadline = time.monotonic() + _START_S
    before: object = None
    since = 0.0
    while (now := time.monotonic()) < deadline:
        if process.poll() is not None:
            raise TorchtopError(f"the demo {demo.name} ended with code {process.returncode}: {_last_line(errors)}")
        try:
            job = find(str(process.pid))
            libraries = {mapping.path for rank in job.ranks for mapping in proc.mappings(rank.pid)}
        except (NoTarget, OSError):
            before = None
        else:
            if (job.ranks, libraries) != before:
                before, since = (job.ranks, libraries), now
            elif now - since >= _SETTLED_S and len(job.ranks) == _RANKS.get(demo.name, 1):
                return job
        time.sleep(_POLL_S)
    raise TorchtopError(f"the demo {demo.name} was not ready within {_START_S:.0f} s: try again when the disk is quiet")


def _dying_with(parent: int) -> Callable[[], None]:
    """To run in the child: the kernel ends it when `parent` is gone, even by kill -9 (prctl(2))."""
    prctl = ctypes.CDLL(None).prctl

    def arrange() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it was gone before the line above
            os._exit(1)

    return arrange


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_line(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing on stderr")


def _say(text: str) -> None:
    """Narration: stdout is for what was seen."""
    print(text, file=sys.stderr, flush=True)
