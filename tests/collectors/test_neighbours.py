"""The neighbours collector: whose a process is, who is busy, and one real look at a real busy process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio
import pytest

from tests.collectors.ready import ready
from torchtop.attach.proc import TICKS_PER_S, Stat
from torchtop.collectors.neighbours import Look, NeighboursCollector, busiest, family, look
from torchtop.errors import Unavailable

SPIN = "print('ready', flush=True)\nwhile True: pass"


def stat(parent: int = 1, cpu_s: float = 0.0, name: str = "python", start: int = 100) -> Stat:
    return Stat(
        name=name, state="R", parent=parent, major_faults=0, cpu_s=cpu_s, threads=1, start_ticks=start, rss_bytes=0
    )


def test_a_family_is_all_below_its_heads() -> None:
    stats = {1: stat(0), 10: stat(1), 11: stat(10), 12: stat(11), 20: stat(1), 21: stat(20), 30: stat(99)}
    assert family(stats, (10, 30, 77)) == {10, 11, 12, 30, 77}


def test_a_circle_of_parents_ends() -> None:
    assert family({1: stat(2), 2: stat(1)}, (1,)) == {1, 2}


def test_busy_ones_in_order_without_ours_and_without_the_idle() -> None:
    before = Look(10.0, {pid: stat(cpu_s=5.0, name=f"p{pid}") for pid in range(1, 6)})
    used = {1: 0.4, 2: 10.0, 3: 3.0, 4: 0.5, 5: 0.0}
    now = Look(20.0, {pid: stat(cpu_s=5.0 + seconds, name=f"p{pid}") for pid, seconds in used.items()})
    found = busiest(now, before, ours={2})
    assert [(one.pid, one.name, one.t) for one in found] == [(3, "p3", 20.0), (4, "p4", 20.0)]
    assert [one.cores for one in found] == pytest.approx([0.3, 0.05])


def test_a_process_that_is_new_or_has_a_used_pid_began_from_nothing() -> None:
    before = Look(10.0, {1: stat(cpu_s=500.0, start=7)})
    now = Look(20.0, {1: stat(cpu_s=4.0, start=900), 2: stat(cpu_s=2.0, start=901)})
    assert [(one.pid, one.cores) for one in busiest(now, before, set())] == [(1, 0.4), (2, 0.2)]


def test_only_the_busiest_are_named() -> None:
    before = Look(0.0, {})
    now = Look(1.0, {pid: stat(cpu_s=pid / 10) for pid in range(1, 30)})
    assert [one.pid for one in busiest(now, before, set())] == list(range(29, 21, -1))


def test_a_clock_that_stood_still_tells_nothing() -> None:
    assert busiest(Look(1.0, {1: stat(cpu_s=9.0)}), Look(1.0, {}), set()) == ()


def put(proc: Path, pid: int, parent: int, cpu_s: float) -> None:
    ticks = int(cpu_s * TICKS_PER_S)
    (proc / str(pid)).mkdir(parents=True, exist_ok=True)
    (proc / str(pid) / "stat").write_text(
        f"{pid} (a b) c) R {parent} 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 50 99 9 0 0\n"
    )


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/stat").touch()
    (tmp_path / "99").mkdir()  # one that ended between listing and reading
    return tmp_path


async def test_the_first_look_tells_nothing_and_an_empty_one_says_that_nobody_was_busy(proc: Path) -> None:
    put(proc, 50, 1, 3.0)
    collector = NeighboursCollector((10,), proc=proc)
    await collector.open()
    assert await collector.read() == ()
    (second,) = await collector.read()
    assert second.processes == ()


async def test_the_launcher_the_ranks_and_torchtop_are_no_neighbours(proc: Path) -> None:
    parents = {5: 1, 6: 5, 10: 5, 11: 10, 50: 1, os.getpid(): 1, 900_001: os.getpid()}
    for pid, parent in parents.items():
        put(proc, pid, parent, 0.0)
    collector = NeighboursCollector((10,), launcher=5, proc=proc)
    await collector.open()
    await collector.read()
    for pid, parent in parents.items():
        put(proc, pid, parent, 5.0)
    (sample,) = await collector.read()
    assert [(one.pid, one.name) for one in sample.processes] == [(50, "a b) c")]
    collector.follow((50,))
    for pid, parent in parents.items():
        put(proc, pid, parent, 10.0)
    (sample,) = await collector.read()
    assert sample.processes == ()


async def test_without_proc_it_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="/proc"):
        await NeighboursCollector((1,), proc=tmp_path).open()


async def test_a_real_busy_process_is_seen_unless_it_is_ours() -> None:
    async with ready(sys.executable, "-c", SPIN, own_session=True) as pid:
        ours: set[int] = set()
        with anyio.fail_after(60):
            before = now = look(Path("/proc"))
            while pid not in {one.pid for one in busiest(now, before, ours)}:
                await anyio.sleep(0.1)
                before, now = now, look(Path("/proc"))
        ours = family(now.stats, (os.getpid(),))
        assert pid in ours and pid not in {one.pid for one in busiest(now, before, ours)}
