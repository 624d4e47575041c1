"""Whose stacks are sampled for a line that a finding lacks, and how often."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import anyio
import pytest

from torchtop.closer_look import Rounds, find_lines
from torchtop.judging import Wanted
from torchtop.record import StackBurst, StackFrame, StackTally

RANK = 7
TALLY = StackTally(frames=(StackFrame("load", "/data.py", 3),), count=20)


def trainer(rank: int = RANK) -> Wanted:
    return Wanted(rank, None, 3.0, rank)


def workers(epoch: int) -> list[Wanted]:
    """Two that live for one epoch."""
    return [Wanted(100 * epoch + at, None, 1.0, RANK) for at in (1, 2)]


def test_workers_that_are_new_each_epoch_are_not_sampled_all_the_time() -> None:
    rounds = Rounds()
    sampled = [second for second in range(0, 600, 10) if rounds.turn(workers(second), second)]
    assert sampled == [0, 10, 20, 30, 40, 50, 110, 170, 230, 290, 350, 410, 470, 530, 590]


def test_each_rank_and_kind_of_thread_has_turns_of_its_own() -> None:
    rounds = Rounds()
    for second in range(6):
        assert rounds.turn(workers(second), second) == workers(second), "both in one turn"
    wanted = [*workers(7), trainer(), trainer(8)]
    assert rounds.turn(wanted, 7) == [trainer(), trainer(8)]
    assert rounds.turn([], 8) == []


class Stacks:
    """Bursts by hand: py-spy on a process that ends meanwhile, or on one that stays."""

    def __init__(self, ending: subprocess.Popen[bytes]) -> None:
        self.asked: list[int] = []
        self._ending = ending

    async def burst(self, pid: int, tid: int | None, seconds: float) -> StackBurst:
        self.asked.append(pid)
        if pid == self._ending.pid:
            self._ending.communicate(b"\n")
            return StackBurst(t=0.0, pid=pid, seconds=seconds, rate_hz=20, tallies=(), reason="it has ended")
        return StackBurst(t=0.0, pid=pid, seconds=seconds, rate_hz=20, tallies=(TALLY,))


@pytest.fixture
def ending() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process


@pytest.fixture
def gone() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        return process.pid


async def test_processes_that_are_gone_are_passed_over(ending: subprocess.Popen[bytes], gone: int) -> None:
    wanted = [Wanted(pid, None, 1.0, os.getpid()) for pid in (gone, ending.pid, os.getpid())]
    stacks, taken = Stacks(ending), list[StackBurst]()
    looks = 0
    enough = anyio.Event()

    async def look() -> None:
        nonlocal looks
        looks += 1
        if looks > 1:
            enough.set()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(find_lines, lambda: wanted if looks == 1 else (), stacks, taken.append, look, 0.0)
            await enough.wait()
            tasks.cancel_scope.cancel()
    assert stacks.asked == [ending.pid, os.getpid()]
    assert [burst.pid for burst in taken] == [os.getpid()]
