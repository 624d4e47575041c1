"""Getting in while the main thread sleeps: at once where that is safe, else not at all, and then nothing is left."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Start, Target
from tests.cycle import cycle
from torchtop.attach import asleep, connect, inject, proc
from torchtop.attach.connect import attach
from torchtop.attach.ptrace import CallTimeout, Place, stopped, surgeon
from torchtop.errors import NothingMeasured

Waiter = Callable[[Callable[[], Any], str], Any]
WAIT_S = 4.0


def code_pages(pid: int) -> list[proc.Mapping]:
    """Executable memory of no file: ours, if it was not there before."""
    return [m for m in proc.mappings(pid) if "x" in m.permissions and not m.path]


def in_call(pid: int, name: str) -> bool:
    call = asleep.system_call(pid)
    return call is not None and call.name.startswith(name)


def tasks(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def test_a_line_of_proc() -> None:
    parsed = asleep.parse("230 0x1 0x0 0x7ffd 0x0 0x0 0x6f 0x7ffda8 0x7f9d\n")
    assert parsed is not None
    assert (
        parsed.name == "clock_nanosleep" and parsed.place == Place(230, 0x7FFDA8, 0x7F9D) and len(parsed.arguments) == 6
    )
    assert asleep.parse("running\n") is None
    outside = asleep.parse("-1 0x7ffda8 0x7f9d\n")
    assert outside is not None and "outside" in outside.name


KINDS: dict[str, object] = {
    "sleep": None,
    "poll": [0, 0],
    "select": [[], [], []],
    "epoll": [],
    "endless-epoll": [1, 0],
    "read": "x",
}


def test_a_sleep_goes_on_as_it_was(start: Start, wait_for: Waiter) -> None:
    """Each is attached to in the middle; begun anew, it would last longer by at least the second we looked on."""
    targets = {kind: start("idle.py", "--kind", kind, "--seconds", str(WAIT_S)) for kind in KINDS}
    methods: dict[str, str] = {}

    def visit(kind: str, target: Target) -> None:
        target.wait_ready()
        wait_for(asleep.Sleeper(target.pid, asleep.ASLEEP_S).look, f"{kind} to begin")
        methods[kind] = cycle(target.pid).method

    visits = [threading.Thread(target=visit, args=each) for each in targets.items()]
    for each in visits:
        each.start()
    for each in visits:
        each.join()
    assert methods == dict.fromkeys(KINDS, "ptrace-thread")
    for kind, target in targets.items():
        truth = target.finish()
        assert truth["answer"] == KINDS[kind], kind
        assert WAIT_S - 0.01 <= truth["waits_s"][0] < WAIT_S + asleep.ASLEEP_S / 2, kind
        assert truth["wrong"] == 0 and truth["threads_more"] == 0, kind


def test_short_sleeps_are_waited_out(start: Start) -> None:
    target = start("idle.py", "--kind", "sleep", "--seconds", "0.05", "--often").wait_ready()
    for _ in range(5):
        connection = cycle(target.pid)
        # Never after having looked on for a second.
        assert connection.method == "ptrace" and connection.hello_s < asleep.ASLEEP_S
    assert target.stop()["wrong"] == 0


def test_asleep_in_a_lock_is_given_up(start: Start, wait_for: Waiter) -> None:
    target = start("idle.py", "--kind", "mutex", "--seconds", "6").wait_ready()
    wait_for(lambda: in_call(target.pid, "futex"), "the main thread to wait for its lock")
    before = code_pages(target.pid), tasks(target.pid)
    with pytest.raises(NothingMeasured) as problem:
        attach(target.pid, timeout_s=1.5, where=lambda pid: f"mutex of process {pid}")
    said = str(problem.value)
    assert "futex" in said and f"mutex of process {target.pid}" in said and "8 KiB" in said
    assert len(code_pages(target.pid)) == len(before[0]) + 1, "the pages stay until the call was made"
    # The main thread comes back: the call is made, and all that it does is take its pages away.
    truth = target.finish()
    assert truth["answer"] == 0 and truth["wrong"] == 0
    assert truth["threads_more"] == 0


def test_a_cancelled_call_takes_its_pages_away(start: Start, wait_for: Waiter) -> None:
    target = start("idle.py", "--kind", "mutex", "--seconds", "3", "--often").wait_ready()
    wait_for(lambda: in_call(target.pid, "futex"), "the main thread to wait for its lock")
    before = code_pages(target.pid)
    with pytest.raises(NothingMeasured):
        attach(target.pid, timeout_s=0.3)
    assert code_pages(target.pid) != before
    wait_for(lambda: code_pages(target.pid) == before, "the pages to go")
    assert cycle(target.pid).method == "ptrace", "and it can be attached to as ever"
    assert target.stop()["wrong"] == 0


def test_a_thread_that_waits_for_the_gil_is_cancelled(start: Start, wait_for: Waiter) -> None:
    target = start("idle.py", "--kind", "gil", "--seconds", "4").wait_ready()
    wait_for(lambda: in_call(target.pid, "clock_nanosleep"), "the main thread to sleep")
    with pytest.raises(NothingMeasured, match="nanosleep"):
        attach(target.pid, timeout_s=2.0)
    truth = target.finish()
    assert truth["wrong"] == 0
    assert truth["waits_s"][0] < 4.0 + asleep.ASLEEP_S / 2


def stays_uninterruptible(pid: int) -> bool:
    """Starting the shell takes a moment of it, too."""
    for _ in range(20):
        if proc.status(pid).state != "D":
            return False
        time.sleep(0.01)
    return True


def test_uninterruptible_sleep_is_left_alone(start: Start, wait_for: Waiter) -> None:
    """And we do not wait with it: whoever holds a thread that never stops would hang as long."""
    target = start("idle.py", "--kind", "uninterruptible", "--seconds", "8").wait_ready()
    wait_for(lambda: stays_uninterruptible(target.pid), "uninterruptible sleep")

    def hold() -> None:
        with stopped(target.pid, target.pid, timeout_s=0.2):
            pass

    with pytest.raises(CallTimeout):
        surgeon(hold)
    wait_for(lambda: proc.status(target.pid).tracer_pid == 0, "the kernel to let go of it")
    assert proc.status(target.pid).state == "D", "and not because it had stopped at last"
    truth = target.finish()
    assert truth["answer"] == 0


def test_where_it_was_is_looked_at_again(start: Start) -> None:
    target = start("exact.py", "--kind", "matmul", "--seconds", "60").wait_ready()
    with pytest.raises(inject.Moved):
        inject.inject_thread(target.pid, lambda page: b"1", Place(230, 0, 0))
    assert set(connect.WAYS) == {"ptrace-thread", "remote-exec", "ptrace", "gdb"}
    assert target.stop()["wrong"] == 0
