"""Hours of watching, made short: memory, suspension, clocks, big models, long steps, and a loss that is no number.

300,000 steps: `make endurance`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TARGETS, TORCHTOP, Start, wait_for
from tests.endurance import slope, watched_and_alone
from torchtop.probe import wire
from torchtop.probe.watch.budget import FEWEST, Budget
from torchtop.record import ProbeMessage
from torchtop.step_statistics import statistics
from torchtop.window import RankWindow

STEPS = 20_000
GROWTH = 512 << 10  # bytes that watching may add to the job over all these steps: less than 27 a step


@pytest.fixture
def stream() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`stream(pid)`: lines of an export, until the test ends."""
    running: list[subprocess.Popen[str]] = []

    def begin(pid: int, *options: str, **environment: str) -> subprocess.Popen[str]:
        command = [*TORCHTOP, "export", str(pid), "--format", "jsonl", "--every", "200ms", *options]
        running.append(
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, **environment},
            )
        )
        return running[-1]

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def lines(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


def test_memory_of_a_watched_job_does_not_grow(tmp_path: Path) -> None:
    """Against the same job unwatched, at the same time: what the allocator does of itself is not ours."""
    watched, alone, _ = watched_and_alone(STEPS, tmp_path)
    assert (slope(watched) - slope(alone)) * STEPS < GROWTH


def test_the_window_is_bounded() -> None:
    """Eight hours of 5 ms steps would be 5.8 million rows."""
    window = RankWindow(1)
    row = [0.0, 0.005, 0, 1, 32.0, 0.001, 0.002, 0.001, 0.0]
    body = {"rows": [row] * 1000}
    for _ in range(1200):
        window.take(ProbeMessage(t=0.0, rank_pid=1, type=wire.STEP, body=body))
    assert len(window.steps) == window.steps.maxlen


def test_a_job_that_is_suspended_and_resumed(start: Start, stream: Callable[..., Any]) -> None:
    target = start("bad_job.py").wait_ready()
    monitor = stream(target.pid)
    seen = lines(monitor)
    while not next(seen)["steps"]["count"]:
        pass
    os.kill(target.pid, signal.SIGSTOP)
    # Longer than the silence after which either side gives up on the other.
    still = [next(seen)["steps"]["count"] for _ in range(int((wire.SILENCE_S + 1.5) / 0.2))]
    assert still[-1] == still[len(still) // 2], "a stopped job makes no steps"
    os.kill(target.pid, signal.SIGCONT)
    wait_for(lambda: next(seen)["steps"]["count"] > still[-1] + 10, "steps after it was resumed")
    after = next(seen)
    assert after["job"]["ranks"][0]["state"] == "attached"
    assert after["steps"]["excluded"]["idle"] == 1, "the step that was stopped says nothing of the job's speed"
    assert after["steps"]["p95_s"] < wire.SILENCE_S
    monitor.terminate()
    assert monitor.communicate(timeout=60)[1] == ""
    assert target.stop()["wrong"] == 0


def test_a_monitor_that_is_suspended_loses_its_place_and_says_so(start: Start, stream: Callable[..., Any]) -> None:
    target = start("bad_job.py").wait_ready()
    threads = len(os.listdir(f"/proc/{target.pid}/task"))
    monitor = stream(target.pid)
    seen = lines(monitor)
    while not next(seen)["steps"]["count"]:
        pass
    os.kill(monitor.pid, signal.SIGSTOP)
    wait_for(lambda: len(os.listdir(f"/proc/{target.pid}/task")) == threads, "the probe to be gone")
    os.kill(monitor.pid, signal.SIGCONT)
    last = list(seen)[-1]
    _, err = monitor.communicate(timeout=60)
    assert monitor.returncode == 4 and err.count("\n") == 1
    assert f"process {target.pid} runs on unwatched" in err and "this torchtop stood still for" in err
    assert last["job"]["ranks"][0]["state"] == "lost"
    assert target.stop()["wrong"] == 0


CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

/* The wall clock jumps by an hour to and fro, each time that somebody looks. */
static long jump(void) {
    static int looks;
    return looks++ % 2 ? 3600 : -3600;
}

int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(id, t);
    if (!failed && id == CLOCK_REALTIME)
        t->tv_sec += jump();
    return failed;
}

time_t time(time_t *t) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (t)
        *t = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *t, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""


def test_a_wall_clock_that_jumps(start: Start, tmp_path: Path, stream: Callable[..., Any]) -> None:
    """In the monitor and in the job: nothing but `taken` is of the wall clock."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("WALL CLOCK NOT TESTED: no C compiler")
    (tmp_path / "clock.c").write_text(CLOCK)
    library = str(tmp_path / "clock.so")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, str(tmp_path / "clock.c"), "-ldl"], check=True)
    ask = [sys.executable, "-c", "import time; print(abs(time.time() - time.time()) > 3600)"]
    environment = {**os.environ, "LD_PRELOAD": library}
    assert subprocess.run(ask, env=environment, capture_output=True, check=True).stdout == b"True\n"
    target = start("bad_job.py", env={"LD_PRELOAD": library}).wait_ready()
    monitor = stream(target.pid, "--for", "3s", LD_PRELOAD=library)
    last = list(lines(monitor))[-1]
    assert (monitor.wait(60), monitor.communicate()[1]) == (0, "")
    truth = target.stop()
    assert truth["wrong"] == 0
    assert 3.0 <= last["window_s"] < 60
    steps = last["steps"]
    inside = sum(steps["began"] + 1e-4 < step["t_end"] <= steps["ended"] + 1e-4 for step in target.step_log())
    assert abs(steps["count"] - inside) <= 1
    assert abs((steps["ended"] - steps["began"]) / steps["count"] / steps["mean_s"] - 1) < 0.5


def test_five_thousand_modules(start: Start, export: Callable[..., Any]) -> None:
    target = start("long_life.py", "--kind", "modules").wait_ready()
    seen = export(target.pid, "--for", "8s")
    truth = target.stop()
    assert truth["modules"] == 5001
    names = {layer["name"] for layer in seen["layers"]}
    assert len(names) == len(seen["layers"]) == truth["modules"] - seen["layers_left_out"]
    assert seen["layers_left_out"] <= 1 and {"", "0", "49.98"} <= names | {"49.98"}
    health = seen["health"]["probe"]
    assert (health["errors"], health["dropped"]) == (0, 0)
    # One look costs a good part of a step, so the next one is far away.
    assert health["every"] > 20 and health["sampled_steps"] >= 1


def test_a_step_that_does_not_end(start: Start, stream: Callable[..., Any]) -> None:
    """No step in time is said, and the job is left in the middle of its step."""
    target = start("long_life.py", "--kind", "step", "--seconds", "12").wait_ready()
    done = subprocess.run(
        [*TORCHTOP, "export", str(target.pid), "--for", "2s"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 5
    assert done.stderr.count("\n") == 1 and "no complete step" in done.stderr and "--for" in done.stderr
    assert json.loads(done.stdout)["health"]["probe"]["left_behind"] == []
    assert target.steps_done() == 3, "all that happened inside one step"
    assert len(rendezvous_sockets(target.pid)) == 0
    target.stop()


def rendezvous_sockets(pid: int) -> list[str]:
    maps = Path(f"/proc/{pid}/net/unix").read_text()
    return [line for line in maps.splitlines() if f"/{pid}-" in line]


def test_steps_of_ten_minutes_in_a_replay() -> None:
    """Three of them and what happens in between, on a clock of our own."""
    window = RankWindow(1)
    budget: Any = Budget  # what runs in the target has no annotations
    budget = budget()
    for number in range(1, 4):
        row = [600.0 * number, 600.0, 0, 1, 32.0, 1.0, 400.0, 100.0, 0.0]
        window.take(ProbeMessage(t=600.0 * number, rank_pid=1, type=wire.STEP, body={"rows": [row]}))
        budget.any_step(600.0, False)
    found = statistics(list(window.steps), window.batch)
    assert (found.count, found.mean_s, found.median_s) == (3, 600.0, 600.0)
    assert budget.every == FEWEST
    assert budget.cost_share() is not None and budget.cost_share() < 1e-6
    window.forget_before(1700.0)
    assert len(window.steps) == 1


def test_a_loss_that_is_no_number(start: Start, stream: Callable[..., Any]) -> None:
    target = start("long_life.py", "--kind", "nan").wait_ready()
    found: set[tuple[bool, bool]] = set()
    for snapshot in lines(stream(target.pid)):
        steps = snapshot["steps"]
        if steps["loss_finite"] is not None:
            found.add((steps["loss"] is None, steps["loss_finite"]))
        if len(found) == 2 and snapshot["steps"]["count"] > 80:
            break
    assert found == {(False, True), (True, False)}
    target.stop()


END = """
import _thread, sys, time
sys.path.insert(0, {root!r})
import torch
from torchtop.probe.watch.loss import LossCell
torch.set_num_threads(1)
cell = LossCell(torch)
cell.copy(torch.ones(()), None)

def read():
    while True:
        cell._fresh = True
        cell.read()

_thread.start_new_thread(read, ())
end = time.monotonic() + 0.3
while time.monotonic() < end:
    sum(range(1000))
"""


def test_a_job_that_ends_while_its_loss_is_read() -> None:
    """A thread of ours that has given the GIL away inside C++ when the program ends would take it down by SIGABRT."""
    script = END.format(root=str(TARGETS.parent.parent))
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
