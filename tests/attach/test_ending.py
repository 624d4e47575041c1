"""How a process ended, as it is told of zombies and of those that are gone."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from torchtop.attach import ending

ENDS = {
    "exit 0": "exit code 0",
    "exit 3": "exit code 3",
    "exit 255": "exit code 255",
    "kill -9 $$": "killed by SIGKILL",
    "ulimit -c 0; kill -SEGV $$": "killed by SIGSEGV",
    f"kill -{signal.SIGRTMIN + 4} $$": f"killed by signal {signal.SIGRTMIN + 4}",
}


@contextmanager
def ended(how: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A shell that has ended, which nobody has waited for yet, and its pidfd."""
    process = subprocess.Popen(["sh", "-c", how])
    handle = os.pidfd_open(process.pid)
    try:
        assert select.select([handle], [], [], 60.0)[0], "it did not end"
        yield process, handle
    finally:
        process.wait()
        os.close(handle)


@pytest.mark.parametrize("how", ENDS)
def test_a_zombie_says_how_it_ended(how: str) -> None:
    with ended(how) as (process, handle):
        assert ending.of(process.pid, handle) == ENDS[how]


@pytest.mark.parametrize("how", ENDS)
def test_one_that_is_gone_too_where_the_kernel_tells(how: str) -> None:
    with ended(how) as (process, handle):
        process.wait()
        told = ending.of(process.pid, handle)
    major, minor = (int(part) for part in os.uname().release.split(".")[:2])
    assert told == (ENDS[how] if (major, minor) >= (6, 15) else None)


def test_one_that_lives_has_not_ended() -> None:
    handle = os.pidfd_open(os.getpid())
    try:
        assert ending.of(os.getpid(), handle) is None
    finally:
        os.close(handle)


def test_a_stranger_is_told_nothing() -> None:
    """Rather than the 0 that /proc shows to one who may not know."""
    if os.geteuid() != 0:
        pytest.skip("needs root to be another user")
    with ended("exit 3") as (process, handle):
        child = os.fork()
        if child == 0:
            os.setresuid(65534, 65534, 65534)
            os._exit(0 if ending.of(process.pid, handle) is None else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
