"""A job of several ranks: one that refuses, dies or is started anew does not lose the others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PATIENCE_S, TORCHTOP, Start, Target, wait_for

RANKS = 3


@pytest.fixture
def job(start: Start) -> Iterator[Callable[..., Target]]:
    """Start a launcher with its ranks; they are told to stop when the test ends."""
    running: list[Target] = []

    def run(*args: str) -> Target:
        target = start("ranks.py", "--ranks", str(RANKS), *args)
        running.append(target)
        return target.wait_ready()

    yield run
    for target in running:
        (target.folder / "stop").touch()
        target.process.communicate(timeout=PATIENCE_S)


def rank_pids(launcher: int) -> dict[int, int]:
    """RANK -> pid of the children that live."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    found = {}
    for child in children:
        environment = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        found[next(int(pair[5:]) for pair in environment if pair.startswith(b"RANK="))] = int(child)
    return found


def watching(pid: int, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*TORCHTOP, "export", str(pid), *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def lines(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


def first_with(process: subprocess.Popen[str], true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first snapshot for which `true`; fails when the export ends without one."""
    for snapshot in lines(process):
        if true(snapshot):
            return snapshot
    assert process.stderr is not None
    raise AssertionError(f"it never came: {process.stderr.read()}")


def states(snapshot: dict[str, Any]) -> dict[int, list[str]]:
    """RANK -> states of the processes that had it, in order."""
    found: dict[int, list[str]] = {}
    for rank in snapshot["job"]["ranks"]:
        found.setdefault(rank["rank"], []).append(rank["state"])
    return found


def ended_well(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err


def test_the_launcher_and_each_rank_mean_the_whole_job(
    job: Callable[..., Target], export: Callable[..., dict[str, Any]]
) -> None:
    launcher = job().pid
    pids = rank_pids(launcher)
    snapshots = [export(pid, "--for", "3s") for pid in (launcher, pids[1])]
    for snapshot in snapshots:
        assert {rank["rank"]: rank["pid"] for rank in snapshot["job"]["ranks"]} == pids
        assert {rank["state"] for rank in snapshot["job"]["ranks"]} == {"attached"}
        assert snapshot["job"]["world_size"] == RANKS
        by_rank = snapshot["steps"]["by_rank"]
        assert [row["rank"] for row in by_rank] == list(range(RANKS))
        assert all(row["count"] > 5 for row in by_rank)
        total = sum(row["samples_per_s"] for row in by_rank)
        assert snapshot["steps"]["samples_per_s"] == pytest.approx(total)
        slowest = max(by_rank, key=lambda row: row["mean_s"])
        assert snapshot["steps"]["mean_s"] == slowest["mean_s"]
        assert {layer["rank"] for layer in snapshot["layers"]} == set(range(RANKS))


def test_a_rank_that_refuses_is_shown_from_outside(
    job: Callable[..., Target], export: Callable[..., dict[str, Any]]
) -> None:
    launcher = job().pid
    stopped = rank_pids(launcher)[1]
    os.kill(stopped, signal.SIGSTOP)
    try:
        wait_for(lambda: "State:\tT" in Path(f"/proc/{stopped}/status").read_text(), "the rank to stop")
        snapshot = export(launcher, "--for", "2s")
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert states(snapshot) == {0: ["attached"], 1: ["outside"], 2: ["attached"]}
    (refused,) = [rank for rank in snapshot["job"]["ranks"] if rank["state"] == "outside"]
    assert f"kill -CONT {stopped}" in refused["reason"]
    assert [row["rank"] for row in snapshot["steps"]["by_rank"]] == [0, 2]


def test_a_rank_that_dies_does_not_end_the_watch(job: Callable[..., Target]) -> None:
    launcher = job().pid
    watch = watching(launcher, "--format", "jsonl", "--every", "0.5s")
    try:
        first_with(watch, lambda s: states(s) == {rank: ["attached"] for rank in range(RANKS)})
        os.kill(rank_pids(launcher)[2], signal.SIGKILL)
        after = first_with(watch, lambda s: states(s)[2] == ["lost"])
        later = first_with(watch, lambda s: s["steps"]["count"] > after["steps"]["count"] + 5)
        assert states(later) == {0: ["attached"], 1: ["attached"], 2: ["lost"]}
        assert [row["rank"] for row in later["steps"]["by_rank"]] == [0, 1]
        ended_well(watch)
    finally:
        watch.kill()


def test_a_rank_that_is_started_anew_is_attached_to(job: Callable[..., Target]) -> None:
    launcher = job("--again").pid
    old = rank_pids(launcher)[0]
    watch = watching(launcher, "--format", "jsonl", "--every", "0.5s")
    try:
        first_with(watch, lambda s: states(s) == {rank: ["attached"] for rank in range(RANKS)})
        os.kill(old, signal.SIGKILL)
        back = first_with(watch, lambda s: states(s)[0] == ["lost", "attached"])
        (lost,) = [rank for rank in back["job"]["ranks"] if rank["state"] == "lost"]
        assert lost["pid"] == old
        assert f"rank 0 goes on as process {rank_pids(launcher)[0]}" in lost["reason"]
        first_with(watch, lambda s: s["steps"]["by_rank"][-1]["rank"] == 0 and s["steps"]["by_rank"][-1]["count"] > 5)
        ended_well(watch)
    finally:
        watch.kill()


def test_without_a_probe_nothing_is_put_in(job: Callable[..., Target], export: Callable[..., dict[str, Any]]) -> None:
    launcher = job().pid
    pids = rank_pids(launcher)

    def state() -> Any:
        return {pid: sorted(os.listdir(f"/proc/{pid}/task")) for pid in pids.values()}

    before = state()
    snapshot = export(launcher, "--for", "3s", "--no-probe")
    assert state() == before
    assert states(snapshot) == {rank: ["outside"] for rank in range(RANKS)}
    assert all("--no-probe" in rank["reason"] for rank in snapshot["job"]["ranks"])
    assert all(rank["rss_bytes"] > 0 and rank["cpu_share"] > 0 for rank in snapshot["job"]["ranks"])
    assert snapshot["steps"]["count"] is None
    assert snapshot["stacks"]
