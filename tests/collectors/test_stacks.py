"""The stacks collector: the parser on a recorded dump, a false py-spy for what goes wrong, and the real one."""

from __future__ import annotations

import os
import sys
from contextlib import aclosing
from pathlib import Path

import anyio
import msgspec
import pytest

from tests.collectors.ready import ready
from torchtop.collectors.stacks import RATE_HZ, StacksCollector, failure, find_py_spy, parse, parse_burst
from torchtop.errors import Unavailable
from torchtop.record import StackFrame, StackSample

FIXTURES = Path(__file__).parent.parent / "fixtures"
SLEEPER = (sys.executable, str(FIXTURES / "sleeper.py"))  # in `innermost`
DUMP = (FIXTURES / "py_spy_dump.json").read_text()
BURST = (FIXTURES / "py_spy_record.txt").read_text()


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


def functions(text: str, pid: int, tid: int | None, tid_is_main: bool = False) -> list[tuple[str, int]]:
    """(innermost function, samples) of each stack."""
    return [(one.frames[0].function, one.count) for one in parse_burst(text, pid, tid, tid_is_main)]


def test_a_burst_is_of_one_thread_innermost_frame_first() -> None:
    assert functions(BURST, 3115, None) == [("log", 34), ("dumps", 5)]
    assert functions(BURST, 3115, 3116) == [("Condition.wait", 39)]
    first = parse_burst(BURST, 3115, None)[0]
    assert first.frames == (
        StackFrame(function="log", file="/home/me/my job (2)/helpers.py", line=4),
        StackFrame(function="<module>", file="/home/me/my job (2)/train.py", line=20),
    )


def test_a_threads_name_may_look_like_anything() -> None:
    assert functions(BURST, 3115, 3117) == [("run", 2)]


def test_the_same_stack_counts_once_and_the_most_frequent_comes_first() -> None:
    line = "thread (7): MainThread;f (/a.py:1) {}\n"
    other = "thread (7): MainThread;g (/a.py:2) 4\n"
    assert functions(line.format(1) + other + line.format(2) + line.format(3), 7, None) == [("f", 6), ("g", 4)]


def test_in_a_pid_namespace_the_main_thread_of_a_burst_is_known_by_name_and_others_by_their_own_id() -> None:
    assert functions(BURST, 70001, None) == [("log", 34), ("dumps", 5)]
    assert functions(BURST, 70001, 3116) == [("Condition.wait", 39)]


def test_before_python_3_11_only_the_main_thread_is_known() -> None:
    hidden = "thread (0x7FA0BFC3EB80): MainThread;f (/a.py:1) 8\nthread (0x7FA0BEB3C6C0): b;g (/a.py:2) 8\n"
    assert functions(hidden, 42, None) == functions(hidden, 42, 7, tid_is_main=True) == [("f", 8)]
    with pytest.raises(ValueError, match=r"3\.11"):
        parse_burst(hidden, 42, 7)


@pytest.mark.parametrize(
    ("text", "tid", "says"),
    [
        (BURST, 99, "thread 99 of process 3115 was not seen"),
        ("", None, "no Python"),
        ("thread (1): a 3", None, "no Python"),
    ],
)
def test_a_burst_without_the_thread_says_so(text: str, tid: int | None, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_burst(text, 3115, tid)


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


async def test_a_burst_that_fails_says_why_and_the_next_one_is_made(tmp_path: Path) -> None:
    script = f"""if [ -e {tmp_path}/asked ]; then cat {FIXTURES}/py_spy_record.txt; exit; fi
touch {tmp_path}/asked; echo "Permission Denied: Try again" >&2; exit 1"""
    collector = StacksCollector((os.getpid(),), executable=false_py_spy(tmp_path, script))
    await collector.open()
    denied = await collector.burst(os.getpid(), 3115, 1.0)
    assert denied.tallies == () and denied.reason is not None and "SYS_PTRACE" in denied.reason
    found = await collector.burst(os.getpid(), 3115, 1.0)
    assert found.reason is None and [one.count for one in found.tallies] == [34, 5]
    assert (found.pid, found.rate_hz) == (os.getpid(), RATE_HZ)


async def test_a_burst_of_a_process_that_ended_says_so(tmp_path: Path) -> None:
    ended = await anyio.open_process(["true"])
    await ended.wait()
    collector = StacksCollector((), executable=false_py_spy(tmp_path, "echo Error: gone >&2; exit 1"))
    await collector.open()
    assert "ended" in ((await collector.burst(ended.pid, None, 1.0)).reason or "")


async def test_a_burst_before_py_spy_was_found_says_so() -> None:
    assert "pip install py-spy" in ((await StacksCollector(()).burst(os.getpid(), None, 1.0)).reason or "")


async def test_bursts_wait_for_one_another_and_dumps_do_not_wait_for_them(tmp_path: Path) -> None:
    started, go = tmp_path / "started", tmp_path / "go"
    os.mkfifo(started)
    os.mkfifo(go)
    script = f"""if [ "$1" = dump ]; then cat {FIXTURES}/py_spy_dump.json; exit; fi
echo $$ > {started}; read line < {go}; cat {FIXTURES}/py_spy_record.txt"""
    collector = StacksCollector((os.getpid(),), executable=false_py_spy(tmp_path, script))
    await collector.open()
    running, most = 0, 0

    async def one() -> None:
        nonlocal running
        assert (await collector.burst(os.getpid(), 3115, 1.0)).reason is None
        running -= 1

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(one)
            for _ in range(3):
                await anyio.to_thread.run_sync(started.read_text)
                running += 1
                most = max(most, running)
                assert len(await collector.read()) == 3
                await anyio.to_thread.run_sync(go.write_text, "go\n")
    assert most == 1


async def test_a_burst_that_is_cancelled_leaves_no_py_spy(tmp_path: Path) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)
    collector = StacksCollector((), executable=false_py_spy(tmp_path, f"echo $$ > {started}; exec sleep 3600"))
    await collector.open()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(collector.burst, os.getpid(), None, 1.0)
            pid = int(await anyio.to_thread.run_sync(started.read_text))
            tasks.cancel_scope.cancel()
        while Path(f"/proc/{pid}").exists():  # killed; the event loop collects it a moment later
            await anyio.sleep(0.01)


async def test_real_dump_shows_where_the_target_sleeps() -> None:
    if find_py_spy() is None:
        pytest.skip("REAL PY-SPY NOT TESTED: py-spy is not installed")
    async with ready(*SLEEPER) as pid:
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


async def test_real_burst_is_of_the_thread_that_was_asked_for() -> None:
    if find_py_spy() is None:
        pytest.skip("REAL PY-SPY NOT TESTED: py-spy is not installed")
    async with ready(*SLEEPER) as pid:
        collector = StacksCollector((pid,))
        await collector.open()
        burst = await collector.burst(pid, None, 1.0)
        if burst.reason is not None and "SYS_PTRACE" in burst.reason:
            pytest.skip(f"REAL PY-SPY NOT TESTED: {burst.reason}")
        assert burst.reason is None
        (other,) = {int(name) for name in os.listdir(f"/proc/{pid}/task")} - {pid}
        of_other = await collector.burst(pid, other, 1.0)
    (tally,) = burst.tallies
    assert 5 <= tally.count <= RATE_HZ
    ours = [frame.function for frame in tally.frames if Path(frame.file).name == "sleeper.py"]
    assert ours == ["innermost", "outermost", "main", "<module>"]
    if sys.version_info >= (3, 11):
        assert "outermost" not in {frame.function for one in of_other.tallies for frame in one.frames}
    else:
        assert of_other.tallies == () and "3.11" in (of_other.reason or "")
