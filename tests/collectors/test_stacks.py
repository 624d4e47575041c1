"""The stacks collector: the parser on a recorded dump, a false py-spy for what goes wrong, and the real one."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import anyio
import msgspec
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from torchtop.collectors.stacks import StacksCollector, failure, find_py_spy, parse
from torchtop.errors import Unavailable
from torchtop.record import StackFrame, StackSample

FIXTURES = Path(__file__).parent.parent / "fixtures"
DUMP = (FIXTURES / "py_spy_dump.json").read_text()


def false_py_spy(folder: Path, script: str) -> str:
    """An executable that answers as `script` (sh) says."""
    path = folder / "py-spy"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_parse() -> None:
    samples = parse(DUMP, rank_pid=3115, t=1.5)
    assert [(sample.thread, sample.tid, sample.main, sample.active) for sample in samples] == [
        ("pin memory", 3116, False, False),
        ("MainThread", 3115, True, True),
        ("thread 140289100000000", None, False, False),
    ]
    assert samples[1] == StackSample(
        t=1.5,
        rank_pid=3115,
        thread="MainThread",
        tid=3115,
        main=True,
        active=True,
        frames=(
            StackFrame(function="Loader.__next__", file="/home/me/train.py", line=31),
            StackFrame(function="<module>", file="/home/me/train.py", line=60),
        ),
    )


def test_main_thread_in_a_pid_namespace_is_known_by_name() -> None:
    assert [sample.main for sample in parse(DUMP, rank_pid=70001, t=0.0)] == [False, True, False]


def test_main_thread_is_known_by_tid_whatever_its_name() -> None:
    renamed = DUMP.replace('"MainThread"', '"trainer"').replace('"pin memory"', '"MainThread"')
    assert [sample.main for sample in parse(renamed, rank_pid=3115, t=0.0)] == [False, True, False]


@pytest.mark.parametrize("text", ["", "Error: no", '[{"frames": 3}]'])
def test_anything_but_a_dump_is_refused(text: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        parse(text, rank_pid=1, t=0.0)


def test_denied_permission_names_the_process_and_the_cure() -> None:
    error = failure("Permission Denied: Try running again with elevated permissions by going 'sudo !!'\n", 42)
    assert isinstance(error, PermissionError)
    assert "42" in str(error) and "SYS_PTRACE" in str(error)


def test_other_failures_keep_the_first_line() -> None:
    error = failure("Error: Failed to find python version from target process\n\nStack backtrace:\n   0: x\n", 42)
    assert str(error) == "py-spy could not read process 42: Failed to find python version from target process"
    assert "no reason" in str(failure("", 42))


async def test_without_py_spy_it_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="pip install py-spy"):
        await StacksCollector((1,), executable=str(tmp_path / "py-spy")).open()


async def test_failure_is_counted_with_its_reason_and_the_next_dump_is_tried(tmp_path: Path) -> None:
    # Refuses the first time, as py-spy does without permission, and dumps from then on.
    script = f"""if [ -e {tmp_path}/asked ]; then cat {FIXTURES}/py_spy_dump.json; exit; fi
touch {tmp_path}/asked; echo "Permission Denied: Try again" >&2; exit 1"""
    collector = StacksCollector((os.getpid(),), 0.01, first_delay_s=0.0, executable=false_py_spy(tmp_path, script))
    await collector.open()
    with anyio.fail_after(60):
        async with aclosing(collector.samples()) as samples:  # type: ignore[type-var]
            sample = await anext(samples)
    assert isinstance(sample, StackSample)
    assert collector.meter.failures == 1


async def test_permission_reason_reaches_the_meter(tmp_path: Path) -> None:
    executable = false_py_spy(tmp_path, 'echo "Permission Denied: Try again" >&2; exit 1')
    collector = StacksCollector((os.getpid(),), executable=executable)
    await collector.open()
    with pytest.raises(PermissionError, match="SYS_PTRACE"):
        await collector.read()


async def test_ended_rank_is_no_failure(tmp_path: Path) -> None:
    ended = await anyio.open_process(["true"])
    await ended.wait()
    collector = StacksCollector((ended.pid,), executable=false_py_spy(tmp_path, "echo Error: gone >&2; exit 1"))
    await collector.open()
    assert await collector.read() == ()


async def test_ranks_take_turns_and_share_the_period(tmp_path: Path) -> None:
    pids = (os.getpid(), os.getppid())
    executable = false_py_spy(tmp_path, f"cat {FIXTURES}/py_spy_dump.json")
    collector = StacksCollector(pids, period_s=4.0, executable=executable)
    await collector.open()
    assert collector.period_s == 2.0
    assert [(await collector.read())[0].rank_pid for _ in range(3)] == [pids[0], pids[1], pids[0]]


@asynccontextmanager
async def sleeper() -> AsyncIterator[int]:
    """Pid of a process that sleeps in `innermost`."""
    process = await anyio.open_process([sys.executable, str(FIXTURES / "sleeper.py")], stdin=None, stderr=None)
    assert process.stdout is not None
    try:
        with anyio.fail_after(60):
            await BufferedByteReceiveStream(process.stdout).receive_until(b"ready\n", 64)
        yield process.pid
    finally:
        process.kill()
        await process.aclose()


async def test_real_dump_shows_where_the_target_sleeps() -> None:
    if find_py_spy() is None:
        pytest.skip("REAL PY-SPY NOT TESTED: py-spy is not installed")
    async with sleeper() as pid:
        collector = StacksCollector((pid,), first_delay_s=0.0)
        await collector.open()
        try:
            samples = await collector.read()
        except PermissionError as error:
            pytest.skip(f"REAL PY-SPY NOT TESTED: {error}")
    main = [sample for sample in samples if sample.main]
    assert [sample.tid for sample in main] == [pid]
    ours = [frame.function for frame in main[0].frames if Path(frame.file).name == "sleeper.py"]
    assert ours == ["innermost", "outermost", "main", "<module>"]
    (reader,) = [sample for sample in samples if sample.thread == "reader"]
    assert reader.main is False and "innermost" in [frame.function for frame in reader.frames]


async def test_first_dump_waits_for_its_delay(tmp_path: Path) -> None:
    executable = false_py_spy(tmp_path, f"touch {tmp_path}/asked; cat {FIXTURES}/py_spy_dump.json")
    collector = StacksCollector((os.getpid(),), first_delay_s=3600.0, executable=executable)
    await collector.open()
    with anyio.move_on_after(0.2):
        async for _ in collector.samples():
            pytest.fail("it did not wait")
    assert not (tmp_path / "asked").exists() and collector.meter.reads == 0
