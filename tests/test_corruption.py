"""A hundred attaches and detaches for each interpreter and kind of program: nobody dies, no result is wrong."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Start, interpreters
from tests.cycle import cycle

CYCLES = {"matmul": 100, "malloc": 100, "threads": 20}
IDLE = {"sleep": 15, "poll": 10, "epoll": 10}  # visits to one wait
NAPS = 25  # visits to a loop of short ones


@pytest.mark.parametrize("kind", ["matmul", "malloc", "threads"])
@pytest.mark.parametrize("python", interpreters().items(), ids=lambda item: item[0])
def test_attach_detach_cycles(start: Start, python: tuple[str, str], kind: str) -> None:
    target = start("exact.py", "--kind", kind, "--seconds", "600", python=python[1]).wait_ready()
    for _ in range(CYCLES[kind]):
        cycle(target.pid)
    truth = target.stop()
    assert truth["wrong"] == 0, truth["errors"]
    assert truth["iterations"] > CYCLES[kind]


def tasks(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


@pytest.mark.parametrize("kind", IDLE)
@pytest.mark.parametrize("python", interpreters().items(), ids=lambda item: item[0])
def test_one_wait_many_visits(start: Start, wait_for: Callable[..., Any], python: tuple[str, str], kind: str) -> None:
    """A thread is started from the sleeping one while another allocates: that takes malloc's lock, too."""
    target = start("idle.py", "--kind", kind, "--busy", python=python[1]).wait_ready()
    before = tasks(target.pid)
    for _ in range(IDLE[kind]):
        assert cycle(target.pid, asleep_s=0.02).method == "ptrace-thread"
    wait_for(lambda: tasks(target.pid) == before, "the last thread of ours to end")
    os.kill(target.pid, signal.SIGUSR1)
    truth = target.finish()
    assert truth["woken"] and truth["wrong"] == 0, truth["errors"]
    assert truth["iterations"] > 0


@pytest.mark.parametrize("python", interpreters().items(), ids=lambda item: item[0])
def test_naps(start: Start, python: tuple[str, str]) -> None:
    target = start("idle.py", "--kind", "sleep", "--seconds", "0.05", "--often", "--busy", python=python[1])
    target.wait_ready()
    for _ in range(NAPS):
        cycle(target.pid)
    truth = target.stop()
    assert truth["wrong"] == 0, truth["errors"]
    assert len(truth["waits_s"]) > 0 and min(truth["waits_s"]) >= 0.0499
