"""Several torchtop at one job: all are served, one budget, one lease, and who comes or goes does not disturb the others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TORCHTOP, Start, Target, wait_for
from tests.wire_client import WireClient
from torchtop.probe import wire

ROUNDS = 20
ATTACH_ON_REQUEST = Path(__file__).parent / "fixtures/attach_on_request.py"

Watcher = subprocess.Popen[str]


@pytest.fixture
def watch() -> Iterator[Callable[[int], Watcher]]:
    """`watch(pid)`: an export that goes on until the test ends."""
    running: list[Watcher] = []

    def begin(pid: int) -> Watcher:
        command = [*TORCHTOP, "export", str(pid), "--format", "jsonl", "--every", "200ms"]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return running[-1]

    yield begin
    for process in running:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=60)


def next_count(watcher: Watcher) -> int:
    """Steps on the next line that has any."""
    assert watcher.stdout is not None
    for line in watcher.stdout:
        snapshot = json.loads(line)
        assert snapshot["job"]["ranks"][0]["state"] == "attached"
        if snapshot["steps"]["count"]:
            return int(snapshot["steps"]["count"])
    raise AssertionError(f"the watcher ended: {watcher.communicate()[1]}")


def test_four_at_the_same_moment_agree(start: Start) -> None:
    target = start("bad_job.py").wait_ready()
    command = [*TORCHTOP, "export", str(target.pid), "--for", "3s"]
    exports = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    answers = [export.communicate(timeout=120) for export in exports]
    assert [(export.returncode, err) for export, (_, err) in zip(exports, answers, strict=True)] == [(0, b"")] * 4
    truth = target.stop()
    assert truth["wrong"] == 0
    ends = [step["t_end"] for step in target.step_log()]
    for out, _ in answers:
        steps = json.loads(out)["steps"]
        # `began` is the beginning of the first step, which is the end of the one before it.
        inside = sum(steps["began"] + 1e-4 < t <= steps["ended"] + 1e-4 for t in ends)
        assert abs(steps["count"] - inside) <= 1


def test_two_at_once_again_and_again(start: Start) -> None:
    """Two attaches in flight: one puts the probe in, the other is handed over to it, or follows when it has gone."""
    target = start("bad_job.py").wait_ready()
    command = [sys.executable, str(ATTACH_ON_REQUEST), str(target.pid), "0.02"]
    pair = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        )
        for _ in range(2)
    ]
    try:
        for process in pair:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for _ in range(ROUNDS):
            at = time.monotonic() + 0.05
            for process in pair:
                assert process.stdin is not None
                print(at, file=process.stdin, flush=True)
            for process in pair:
                assert process.stdout is not None
                said = json.loads(process.stdout.readline())
                assert said["kinds"][0] == wire.HELLO and said["kinds"][-1] == wire.BYE, said
                # The connector that one has put there may take the other first.
                assert said["method"] in ("ptrace", "live-agent", "cooperative")
    finally:
        for process in pair:
            process.kill()
            process.communicate()
    assert target.stop()["wrong"] == 0


def test_a_fifth_is_told_who_watches(start: Start, watch: Callable[[int], Watcher]) -> None:
    target = start("bad_job.py").wait_ready()
    first = watch(target.pid)
    next_count(first)
    others = [WireClient(target.pid) for _ in range(wire.CLIENTS - 1)]
    done = subprocess.run(
        [*TORCHTOP, "export", str(target.pid), "--for", "1s"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1)
    assert f"process {first.pid} (" in done.stderr
    assert f"process {os.getpid()} (" in done.stderr
    before = next_count(first)
    for other in others:
        other.leave()
    with WireClient(target.pid) as again:
        assert again.connection.method == "live-agent"
        again.leave()
    assert next_count(first) >= before
    assert target.stop()["wrong"] == 0


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=lambda s: s.name)
def test_one_goes_and_the_other_stays(start: Start, watch: Callable[[int], Watcher], end: signal.Signals) -> None:
    target = start("bad_job.py").wait_ready()
    first, second = watch(target.pid), watch(target.pid)
    next_count(first)
    next_count(second)
    first.send_signal(end)
    first.communicate(timeout=60)
    counts = [next_count(second) for _ in range(8)]
    assert counts[-1] > counts[0]
    assert target.stop()["wrong"] == 0


def test_the_most_careful_wish_holds_and_goes_with_its_client(start: Start, watch: Callable[[int], Watcher]) -> None:
    target = start("bad_job.py").wait_ready()
    holder = watch(target.pid)
    next_count(holder)
    with WireClient(target.pid) as one, WireClient(target.pid) as two:
        one.send(wire.ARM, every=2)
        one.until_every(lambda n: n == 2, "one step in 2")
        two.send(wire.ARM, every=7)
        one.until_every(lambda n: n == 7, "the more careful of two wishes")
        one.send(wire.ARM, every=3)
        two.send(wire.ARM, every=None)
        one.until_every(lambda n: n == 3, "the only wish that is left")
        two.send(wire.ARM, every=11)
        one.until_every(lambda n: n == 11, "the more careful of two wishes")
        two.leave()
        one.until_every(lambda n: n == 3, "the wish of who is left")
        two_again = WireClient(target.pid)
        one.leave()
        # Without wishes the budget decides: such short steps are armed rarely.
        two_again.until_every(lambda n: n > 11, "the budget")
        two_again.leave()
    assert target.stop()["wrong"] == 0


def test_one_lease(start: Start, watch: Callable[[int], Watcher]) -> None:
    target = start("bad_job.py").wait_ready()
    next_count(watch(target.pid))
    me = {"pid": os.getpid(), "uid": os.geteuid()}
    with WireClient(target.pid) as one, WireClient(target.pid) as two:

        def lease(client: WireClient, want: bool = True) -> tuple[bool, dict[str, Any]]:
            answer = client.ask_for_lease(want)
            return answer["held"], {"pid": answer["pid"], "uid": answer["uid"]}

        assert lease(one) == (True, me)
        assert lease(one) == (True, me), "asking twice is fine"
        assert lease(two) == (False, me)
        assert lease(two, want=False) == (False, me), "nobody gives back what is another's"
        assert lease(one, want=False) == (False, {"pid": None, "uid": None})
        assert lease(two) == (True, me)
        two.leave()
        assert lease(one) == (True, me), "it is free when the holder has detached"
        one.leave()
        assert_free_after_kill(target)
    assert target.stop()["wrong"] == 0


def assert_free_after_kill(target: Target) -> None:
    """The holder is killed: the next one who asks gets it."""
    script = (
        "import sys, time; from tests.wire_client import WireClient; client = WireClient(int(sys.argv[1]));"
        "print(client.ask_for_lease()['held'], flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, str(target.pid)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    with WireClient(target.pid) as heir:
        refused = heir.ask_for_lease()
        assert (refused["held"], refused["pid"]) == (False, holder.pid)
        holder.kill()
        holder.communicate()
        wait_for(lambda: heir.ask_for_lease()["held"], "the lease to be free")
        heir.leave()
