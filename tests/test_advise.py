"""`torchtop advise`: real jobs, the text, the JSON, and the exit codes; the page from scenes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jsonschema
import psutil
import pytest
from msgspec.structs import replace

from tests.conftest import PATIENCE_S, TORCHTOP, Start
from tests.tui import scenes
from tests.tui.found import INPUT_BOUND, NOT_FOR_CPU
from torchtop.advise import page
from torchtop.attach import rendezvous

RULES = 44


def run(*args: str | int, columns: int = 80) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TORCHTOP, "advise", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={**os.environ, "COLUMNS": str(columns)},
        check=False,
    )


def told(scene: str, width: int = 80) -> str:
    return "\n".join(page(scenes.SCENES[scene](), width, RULES))


def test_a_job_that_waits_for_its_data(start: Start) -> None:
    target = start("train.py", "--model", "mlp", "--steps", "100000", "--slow", "data").wait_ready()
    done = run(target.pid, "--for", "4s", "--fail-on", "critical")
    assert (done.returncode, done.stderr) == (1, f"watching process {target.pid} for 4 s\n")
    lines = done.stdout.splitlines()
    assert f"training, process {target.pid}" in lines
    found = [line.split()[:4] for line in lines if line.startswith("!!")]
    assert ["!!", "input-bound", "up", "to"] in found, "a busy machine may be another finding"
    assert "dataset Rows" in done.stdout
    assert "waiting for data: " in done.stdout and " % of the step (" in done.stdout
    assert "not judged: " in done.stdout
    assert max(map(len, lines)) <= 80

    schema = json.loads(subprocess.run([*TORCHTOP, "schema"], capture_output=True, text=True, check=True).stdout)
    done = run(target.pid, "--for", "3s", "--json")
    assert done.returncode == 0, "what is found is no failure unless it is asked for"
    snapshot = json.loads(done.stdout)
    jsonschema.validate(snapshot, schema)
    (waits,) = [one for one in snapshot["findings"] if one["code"] == "input-bound"]
    assert waits["severity"] == "critical"
    assert waits["where"]["pid"] == target.pid
    assert waits["recoverable_s"] > 0 and waits["evidence"]
    assert {one["code"] for one in snapshot["abstained"]}.isdisjoint(one["code"] for one in snapshot["findings"])
    target.stop()


def test_a_job_that_ends_while_its_stacks_are_sampled(start: Start, wait_for: Callable[..., Any]) -> None:
    target = start("train.py", "--model", "mlp", "--steps", "100000", "--slow", "logging").wait_ready()
    command = [*TORCHTOP, "advise", str(target.pid), "--for", "60s"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def burst() -> list[psutil.Process]:
        return [one for one in psutil.Process(process.pid).children() if "record" in one.cmdline()[1:2]]

    wait_for(burst, "py-spy to sample the finding's line")
    (sampling,) = burst()
    target.stop()
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert "Traceback" not in err and not sampling.is_running()
    assert "ended: the process has ended" in out
    assert "watched for " in out and " steps, " in out


def test_interrupted(start: Start, wait_for: Callable[..., Any]) -> None:
    """What was seen until then is told all the same."""
    target = start("train.py", "--model", "mlp", "--steps", "100000").wait_ready()
    command = [*TORCHTOP, "advise", str(target.pid), "--for", "60s"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: rendezvous.existing_meetings(target.pid), "the probe to be there")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert not out or f"process {target.pid}" in out
    target.stop()


def test_what_cannot_be_watched() -> None:
    done = run(999999999)
    assert (done.returncode, done.stdout) == (3, "")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        done = run(process.pid)
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr.startswith("torchtop: ") and done.stderr.count("\n") == 1
        process.communicate(b"\n")


@pytest.mark.parametrize("args", [("--for", "soon"), ("--fail-on", "info"), ("--for", "0")])
def test_a_wrong_command_line(args: tuple[str, ...]) -> None:
    done = run(os.getpid(), *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert args[0] in done.stderr


def test_the_page() -> None:
    assert told("advised").splitlines()[:6] == [
        "python -m torchtop.demo.slow_loader",
        "training, process 41001",
        "watched for 60.0 s: 552 steps, 110 ms each",
        "",
        "!! input-bound                                       up to 66.1 ms/step (60.0 %)",
        "   the step waits 60% of its time for the DataLoader, which has 1 worker",
    ]
    heads = [line.split()[:2] for line in told("advised").splitlines() if "up to" in line]
    assert heads[:2] == [["!!", "input-bound"], ["!", "host-stall"]]
    assert "not judged: 20 of 44 rules" in told("advised").splitlines()


def test_the_page_of_a_healthy_job() -> None:
    assert "nothing found: 24 of 44 rules have judged this job, and all is well" in told("healthy").splitlines()


def test_the_page_of_a_job_that_was_watched_too_shortly() -> None:
    text = " ".join(told("few_steps").split())
    assert "nothing found yet: 4 of the 20 steps that 7 rules wait for were seen" in text
    assert "all is well" not in text


@pytest.mark.parametrize(
    ("scene", "said"),
    [
        ("outside", "outside: nothing was put into it, as asked (--no-probe)"),
        ("outside", "watched for 60.0 s: no step was seen"),
        ("outside", "process 41001 was in scaled_dot_product_attention (attention.py:41)"),
        ("ended", "ended: the process has ended (exit code 1)"),
        ("compiled", "compiled: steps and memory only: modules inside cannot be timed"),
        ("two_ranks", "training, processes 41001 (rank 0), 41002 (rank 1)"),
        ("two_ranks", "this node only: 2 ranks elsewhere"),
    ],
)
def test_what_stands_in_the_way_is_said(scene: str, said: str) -> None:
    assert said in told(scene)


def test_nothing_was_judged() -> None:
    for snapshot in (scenes.outside(), replace(scenes.healthy(), abstained=NOT_FOR_CPU)):
        text = "\n".join(page(snapshot, 80, len(NOT_FOR_CPU)))
        assert "nothing was found, but hardly anything could be judged\n" in text
        assert "all is well" not in text


@pytest.mark.parametrize("scene", scenes.SCENES)
@pytest.mark.parametrize("width", [40, 80, 110])
def test_it_fits(scene: str, width: int) -> None:
    assert max(map(len, told(scene, width).splitlines())) <= width


def test_names_from_the_job_cannot_move_the_cursor() -> None:
    bad = "\x1b[2J\x07"
    snapshot = scenes.healthy()
    job = replace(snapshot.job, command=f"python {bad}.py")
    finding = replace(INPUT_BOUND, summary=bad, where={"layer": bad, bad: bad}, code=f"x{bad}", remedies=(bad,))
    text = "\n".join(page(replace(snapshot, job=job, findings=(finding,)), 80, RULES))
    assert "\x1b" not in text and "\x07" not in text
    assert "?[2J?" in text
