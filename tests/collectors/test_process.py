"""The process collector: parsers, a /proc built by hand, and real ranks with real workers."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.abc
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from torchtop.attach.proc import PAGE_BYTES, TICKS_PER_S, parse_stat
from torchtop.attach.role import Identity, is_worker
from torchtop.collectors.process import (
    CgroupMemory,
    ProcessCollector,
    cgroup_directories,
    cgroup_memory,
    parse_cgroup,
    parse_io,
    parse_private,
    parse_run_delay,
    parse_switches,
)
from torchtop.errors import Unavailable
from torchtop.record import ProcessSample

RANK_SCRIPT = Path(__file__).parent.parent / "fixtures" / "rank_with_workers.py"
PYTHON = "/usr/bin/python3.11"
TRAIN = "python\0train.py\0"
SPAWNED = (
    "python\0-c\0from multiprocessing.spawn import spawn_main; spawn_main(pipe_handle=7)\0--multiprocessing-fork\0"
)
SERVER = "python\0-c\0from multiprocessing.forkserver import main; main(5, 6)\0"
TRACKER = "python\0-c\0from multiprocessing.resource_tracker import main;main(4)\0"


class Machine:
    """A hand-made /proc and /sys/fs/cgroup."""

    def __init__(self, root: Path) -> None:
        self.proc, self.cgroup = root / "proc", root / "cgroup"
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "self/stat").touch()
        self.cgroup.mkdir()

    def collector(self, *rank_pids: int) -> ProcessCollector:
        return ProcessCollector(rank_pids, proc=self.proc, cgroup=self.cgroup)

    def process(
        self,
        pid: int,
        parent: int = 1,
        *,
        cmdline: str = TRAIN,
        exe: str | None = PYTHON,
        name: str = "python",
        state: str = "S",
        cpu_s: int = 0,
        start: int = 100,
        io: tuple[int, int] | None = (0, 0),
        switches: int = 0,
        faults: int = 0,
        schedstat: str | None = None,
        children: str | None = None,
    ) -> None:
        """Write, or write anew, what /proc says of a process; `children` of its main thread."""
        directory = self.proc / str(pid)
        (directory / "task" / str(pid)).mkdir(parents=True, exist_ok=True)
        (directory / "stat").write_text(stat_line(pid, parent, name, state, cpu_s, start, faults))
        memory = "RssAnon:\t     300 kB\nRssFile:\t    5000 kB\nRssShmem:\t      20 kB\n"
        (directory / "status").write_text(f"Name:\t{name}\n{memory}nonvoluntary_ctxt_switches:\t{switches}\n")
        (directory / "cmdline").write_text(cmdline)
        (directory / "cgroup").write_text("0::/job\n")
        (directory / "io").unlink(missing_ok=True)
        if io is not None:
            (directory / "io").write_text(f"rchar: 1\nread_bytes: {io[0]}\nwrite_bytes: {io[1]}\n")
        (directory / "exe").unlink(missing_ok=True)
        if exe is not None:
            (directory / "exe").symlink_to(exe)
        if schedstat is not None:
            (directory / "task" / str(pid) / "schedstat").write_text(schedstat)
        if children is not None:
            (directory / "task" / str(pid) / "children").write_text(children)


def stat_line(pid: int, parent: int, name: str, state: str, cpu_s: int, start: int, faults: int = 0) -> str:
    """A line of /proc/PID/stat with 7 threads and 1,000 resident pages."""
    user, system = cpu_s * TICKS_PER_S - cpu_s, cpu_s
    return (
        f"{pid} ({name}) {state} {parent} 10 10 0 -1 4194304 5 6 {faults} 8 {user} {system} 1 2 20 0 7 0 {start} 99999 1000 "
        "18446744073709551615 1 1 0 0 0 0 0 16781312 2 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
    )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


async def pids(collector: ProcessCollector) -> list[tuple[int, int]]:
    """(pid, rank_pid) of one reading."""
    return [(sample.pid, sample.rank_pid) for sample in await collector.read()]


@pytest.mark.parametrize("name", ["python", "pt main (x) 3", ") S 1", ""])
def test_stat_survives_any_name(name: str) -> None:
    stat = parse_stat(stat_line(5, 4, name, "D", 12, 777))
    assert (stat.name, stat.state, stat.parent, stat.cpu_s) == (name, "D", 4, 12.0)
    assert (stat.threads, stat.start_ticks, stat.rss_bytes) == (7, 777, 1000 * PAGE_BYTES)


def test_switches_are_the_involuntary_ones() -> None:
    assert parse_switches("voluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t31\n") == 31
    assert parse_switches("Name:\tkthreadd\n") is None


def test_private_is_what_is_no_mapped_file() -> None:
    told = "VmRSS:\t    1900 kB\nRssAnon:\t     700 kB\nRssFile:\t    1000 kB\nRssShmem:\t     200 kB\n"
    assert parse_private(told) == 900 * 1024
    assert parse_private("VmRSS:\t    1900 kB\n") is None


async def test_pages_of_a_mapped_file_are_resident_and_not_private() -> None:
    """Not of one in a temporary folder: where that is in memory, its files are shared memory."""
    collector = ProcessCollector((os.getpid(),))
    with tempfile.TemporaryFile(dir=Path(__file__).parent) as file:
        file.write(bytes(64 << 20))
        file.flush()
        (before,) = (sample for sample in await collector.read() if sample.pid == os.getpid())
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert mapped.find(b"x") == -1
            (after,) = (sample for sample in await collector.read() if sample.pid == os.getpid())
    if before.held_bytes is None or after.held_bytes is None or after.private_bytes is None:
        pytest.skip("this kernel does not tell files from the rest of resident memory")
    assert (after.rss_bytes or 0) - (before.rss_bytes or 0) > 48 << 20
    assert after.held_bytes - before.held_bytes < 16 << 20


@pytest.mark.parametrize(
    ("text", "delay_s"),
    [("123456789 2500000000 17\n", 2.5), ("5000 0 1\n", 0.0), ("0 0 0\n", None), ("", None)],
)
def test_run_delay_is_the_second_number(text: str, delay_s: float | None) -> None:
    assert parse_run_delay(text) == delay_s


def test_io_is_storage_not_page_cache() -> None:
    text = "rchar: 9\nwchar: 8\nsyscr: 7\nsyscw: 6\nread_bytes: 4096\nwrite_bytes: 512\ncancelled_write_bytes: 0\n"
    assert parse_io(text) == (4096, 512)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0::/user.slice/run-1.scope\n", ("v2", "/user.slice/run-1.scope")),
        ("12:cpuset:/x\n4:memory:/slurm/job_7\n0::/\n", ("v1", "/slurm/job_7")),
        ("1:name=systemd:/a:b\n0::/a:b\n", ("v2", "/a:b")),
        ("9:cpu,memory:/both\n", ("v1", "/both")),
        ("1:name=systemd:/\n", None),
        ("", None),
    ],
)
def test_cgroup_that_accounts_memory(text: str, found: tuple[str, str] | None) -> None:
    assert parse_cgroup(text) == found


def write(directory: Path, **files: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("_dot_", ".")).write_text(text + "\n")


def test_smallest_limit_above_wins_and_brings_its_own_use(tmp_path: Path) -> None:
    write(tmp_path / "pod", memory_dot_max="8000", memory_dot_current="5000")
    write(tmp_path / "pod/job", memory_dot_max="9000", memory_dot_current="4000")
    write(tmp_path / "pod/job/step", memory_dot_max="max", memory_dot_current="3000")
    directories = cgroup_directories(tmp_path, "0::/pod/job/step\n")
    assert directories == (tmp_path / "pod/job/step", tmp_path / "pod/job", tmp_path / "pod", tmp_path)
    assert cgroup_memory(directories) == CgroupMemory(limit=8000, used=5000)


def test_no_limit_is_none_with_the_use_of_its_own_cgroup(tmp_path: Path) -> None:
    write(tmp_path / "job", memory_dot_max="max", memory_dot_current="3000")
    assert cgroup_memory(cgroup_directories(tmp_path, "0::/job\n")) == CgroupMemory(limit=None, used=3000)


@pytest.mark.parametrize("path", ["/", "/not/visible/here", "/../../other"])
def test_in_a_container_the_root_is_the_containers(tmp_path: Path, path: str) -> None:
    write(tmp_path, memory_dot_max="7000", memory_dot_current="10")
    assert cgroup_memory(cgroup_directories(tmp_path, f"0::{path}\n")) == CgroupMemory(limit=7000, used=10)


@pytest.mark.parametrize(("written", "limit"), [("6000", 6000), ("9223372036854771712", None)])
def test_cgroup_v1(tmp_path: Path, written: str, limit: int | None) -> None:
    write(tmp_path / "memory/job", memory_dot_limit_in_bytes=written, memory_dot_usage_in_bytes="42")
    assert cgroup_memory(cgroup_directories(tmp_path, "4:memory:/job\n0::/\n")) == CgroupMemory(limit=limit, used=42)


def test_without_a_memory_controller_nothing_is_known(tmp_path: Path) -> None:
    assert cgroup_memory(cgroup_directories(tmp_path, "0::/job\n")) == CgroupMemory(None, None)
    assert cgroup_memory(cgroup_directories(tmp_path, "")) == CgroupMemory(None, None)


RANK = Identity("python", PYTHON, TRAIN)


@pytest.mark.parametrize(
    ("process", "parent", "worker"),
    [
        (RANK, RANK, True),
        (Identity("python", PYTHON, SPAWNED), RANK, True),
        (Identity("python", PYTHON, SERVER), RANK, False),
        (Identity("python", PYTHON, SERVER), Identity("python", PYTHON, SERVER), True),
        (Identity("python", PYTHON, TRACKER), RANK, False),
        (Identity("pt_data_worker", PYTHON, "my training run\0"), RANK, True),
        (Identity("python", PYTHON, "python\0compile_worker.py\0"), RANK, False),
        (Identity("python", "/opt/other/bin/python3.12", TRAIN), RANK, False),
        (Identity("python", None, TRAIN), RANK, True),
        (Identity("python", None, ""), Identity("python", None, ""), False),
    ],
)
def test_is_worker(process: Identity, parent: Identity, worker: bool) -> None:
    assert is_worker(process, parent, RANK) is worker


@pytest.mark.parametrize("listed", [True, False], ids=["children files", "parent scan"])
async def test_workers_are_found_below_their_rank(machine: Machine, listed: bool) -> None:
    machine.process(10, children="11 12 13 20 " if listed else None)
    machine.process(11, 10, children="" if listed else None)
    machine.process(12, 10, cmdline=SERVER, children="14 " if listed else None)
    machine.process(13, 10, cmdline=TRACKER, children="" if listed else None)
    machine.process(14, 12, cmdline=SERVER, children="" if listed else None)
    machine.process(20, 10, cmdline=SPAWNED, children="21 " if listed else None)
    machine.process(21, 20, cmdline=SPAWNED, children="" if listed else None)
    machine.process(30, 1)
    collector = machine.collector(10, 20)
    await collector.open()
    assert await pids(collector) == [(10, 10), (11, 10), (14, 10), (20, 20), (21, 20)]


async def test_children_of_every_thread_are_found(machine: Machine) -> None:
    machine.process(10, children="")
    (machine.proc / "10/task/15").mkdir()
    (machine.proc / "10/task/15/children").write_text("11 ")
    machine.process(11, 10, children="")
    collector = machine.collector(10)
    await collector.open()
    assert await pids(collector) == [(10, 10), (11, 10)]


async def test_sample_and_rates(machine: Machine) -> None:
    write(machine.cgroup / "job", memory_dot_max="8000", memory_dot_current="5000")
    machine.process(10, state="R", cpu_s=50, io=(1000, 0), switches=10, faults=3, schedstat="900 1000 7\n")
    collector = machine.collector(10)
    await collector.open()
    (first,) = await collector.read()
    assert first == ProcessSample(
        t=first.t,
        pid=10,
        rank_pid=10,
        state="R",
        cpu_share=None,
        rss_bytes=1000 * PAGE_BYTES,
        threads=7,
        read_bytes_per_s=None,
        write_bytes_per_s=None,
        involuntary_switches_per_s=None,
        cgroup_memory_limit_bytes=8000,
        cgroup_memory_bytes=5000,
        private_bytes=320 * 1024,
    )
    machine.process(10, state="D", cpu_s=53, io=(5096, 512), switches=40, faults=8, schedstat="950 2000 9\n")
    (second,) = await collector.read()
    seconds = second.t - first.t
    assert second.state == "D"
    assert second.cpu_share == pytest.approx(3 / seconds)
    assert second.read_bytes_per_s == pytest.approx(4096 / seconds)
    assert second.write_bytes_per_s == pytest.approx(512 / seconds)
    assert second.involuntary_switches_per_s == pytest.approx(30 / seconds)
    assert second.run_delay_share == pytest.approx(1000 / 1e9 / seconds)
    assert second.major_faults_per_s == pytest.approx(5 / seconds)


async def test_a_wait_that_began_before_the_last_reading_is_no_more_than_all_of_the_time(machine: Machine) -> None:
    machine.process(10, schedstat="900 0 7\n")
    collector = machine.collector(10)
    await collector.read()
    machine.process(10, schedstat="900 99000000000 8\n")
    (sample,) = await collector.read()
    assert sample.run_delay_share == 1.0


async def test_a_kernel_without_schedstat_leaves_only_the_delay_out(machine: Machine) -> None:
    machine.process(10)
    collector = machine.collector(10)
    await collector.read()
    (sample,) = await collector.read()
    assert (sample.run_delay_share, sample.major_faults_per_s) == (None, 0.0)


async def test_reused_pid_starts_without_rates(machine: Machine) -> None:
    machine.process(10, cpu_s=50, start=100)
    collector = machine.collector(10)
    await collector.read()
    machine.process(10, cpu_s=60, io=(9000, 9000), start=900)
    (sample,) = await collector.read()
    assert (sample.cpu_share, sample.read_bytes_per_s, sample.involuntary_switches_per_s) == (None, None, None)


async def test_unreadable_io_is_none_and_the_rest_is_read(machine: Machine) -> None:
    machine.process(10, io=None, exe=None)
    collector = machine.collector(10)
    await collector.read()
    (sample,) = await collector.read()
    assert sample.read_bytes_per_s is None and sample.write_bytes_per_s is None
    assert sample.cpu_share == 0.0


async def test_child_seen_before_its_exec_is_dropped_after_it(machine: Machine) -> None:
    machine.process(10, children="11 ")
    machine.process(11, 10, children="")
    collector = machine.collector(10)
    await collector.open()
    assert await pids(collector) == [(10, 10), (11, 10)]
    machine.process(11, 10, cmdline="nvidia-smi\0", exe="/usr/bin/nvidia-smi", children="")
    assert await pids(collector) == [(10, 10)]


async def test_worker_stays_one_when_the_rank_changes_its_title(machine: Machine) -> None:
    machine.process(10, children="11 ")
    machine.process(11, 10, children="")
    collector = machine.collector(10)
    await collector.open()
    await collector.read()
    await collector.read()
    machine.process(10, cmdline="epoch 2 of 90\0", children="11 ")
    assert await pids(collector) == [(10, 10), (11, 10)]


async def test_vanished_rank_yields_nothing(machine: Machine) -> None:
    machine.process(20)
    collector = machine.collector(10, 20)
    await collector.open()
    assert await pids(collector) == [(20, 20)]


async def test_without_proc_it_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="/proc"):
        await ProcessCollector((1,), proc=tmp_path, cgroup=tmp_path).open()


class Job(NamedTuple):
    """A running tests/fixtures/rank_with_workers.py."""

    pid: int
    workers: set[int]
    process: anyio.abc.Process


@asynccontextmanager
async def running(method: str) -> AsyncIterator[Job]:
    """Start the script, wait for what it prints, and end it by closing its input."""
    command = [sys.executable, str(RANK_SCRIPT), method]
    process = await anyio.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None)
    assert process.stdin is not None and process.stdout is not None
    try:
        with anyio.fail_after(60):
            line = await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", 4096)
        yield Job(process.pid, set(json.loads(line)["workers"]), process)
        await process.stdin.aclose()
        with anyio.fail_after(60):
            await process.wait()
    finally:
        await process.aclose()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
async def test_real_workers_and_nothing_else(method: str) -> None:
    async with running(method) as job:
        collector = ProcessCollector((job.pid, os.getpid()))
        await collector.open()
        await collector.read()
        samples = [sample for sample in await collector.read() if sample.rank_pid == job.pid]
        assert samples[0].pid == job.pid
        assert {sample.pid for sample in samples[1:]} == job.workers
        for sample in samples:
            assert sample.rss_bytes and sample.threads and sample.state in "RSD"
            assert sample.cpu_share is not None and sample.cpu_share >= 0
            assert sample.run_delay_share is None or 0 <= sample.run_delay_share <= 1
            assert sample.major_faults_per_s is not None and sample.major_faults_per_s >= 0
    assert [sample.pid for sample in await collector.read()] == [os.getpid()]
