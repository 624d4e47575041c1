"""TARGET resolution with real jobs of several processes. Other shapes of jobs, as facts: test_family.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from torchtop.attach.job import LocalJob, find, ranks_now
from torchtop.errors import NoTarget, UsageError

FAMILY = Path(__file__).parents[1] / "fixtures" / "family.py"
TIMEOUT_S = 90.0
ENVIRONMENT = {**os.environ, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}

Waiter = Callable[..., Any]


@contextmanager
def family(kind: str) -> Iterator[dict[str, list[int]]]:
    """A running job, as role -> pids."""
    process = subprocess.Popen(
        [sys.executable, str(FAMILY), kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.stdin.close()
        try:
            process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def pids(job: LocalJob) -> list[int]:
    return sorted(rank.pid for rank in job.ranks)


@pytest.mark.parametrize("kind", ["fork", "spawn-loader", "forkserver", "spawn", "hogwild", "learner"])
def test_any_process_of_a_job_means_all_its_ranks(kind: str) -> None:
    with family(kind) as roles:
        ranks = sorted(roles["ranks"])
        for pid in [pid for pids_of_role in roles.values() for pid in pids_of_role]:
            job = find(str(pid))
            assert pids(job) == ranks, f"{pid} of {roles}"
            assert job.launcher == (roles["launcher"][0] if "launcher" in roles else None)
            assert f"family.py {kind}" in job.command
            assert all(rank.rank is None for rank in job.ranks)
        assert sorted(rank.pid for rank in ranks_now(job)) == ranks
        named = find(f"family.py {kind}")
        assert (named.id, named.ranks) == (job.id, job.ranks)
    assert ranks_now(job) == ()


def test_torchrun_from_its_first_moment_to_a_restart(wait_for: Waiter) -> None:
    """One rank is killed; torchrun ends the other and starts two anew."""
    launcher = subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts=1"),
            *("--monitor-interval=0.1", "--nproc-per-node=2", str(FAMILY), "rank"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=ENVIRONMENT,
    )
    try:
        assert launcher.stdout is not None
        started = time.monotonic()
        refused = []
        while time.monotonic() - started < TIMEOUT_S:
            try:
                job = find(str(launcher.pid))
                if len(job.ranks) == 2:
                    break
            except NoTarget as early:
                refused.append(str(early))
            time.sleep(0.05)
        told = sorted(int(launcher.stdout.readline().split()[1]) for _ in range(2))
        assert pids(job) == told
        assert any("its ranks have not loaded PyTorch yet: try again in some seconds" in words for words in refused)
        assert launcher.pid not in told
        assert [(rank.rank, rank.local_rank) for rank in job.ranks] == [(0, 0), (1, 1)]
        assert (job.world_size, job.launcher) == (2, launcher.pid)
        assert find(str(told[0])).ranks == job.ranks
        second = find(f"{launcher.pid}:1")
        assert [rank.rank for rank in second.ranks] == [rank.rank for rank in ranks_now(second)] == [1]
        assert second.not_asked_for == 1
        assert find(str(launcher.pid), rank=1) == second
        with pytest.raises(UsageError, match="no rank 7.*its ranks: 0, 1"):
            find(f"{told[0]}:7")

        os.kill(told[0], signal.SIGKILL)
        again = wait_for(
            lambda: len(now := ranks_now(job)) == 2 and not {rank.pid for rank in now} & set(told) and now,
            "the ranks to be started anew",
        )
        assert [rank.rank for rank in again] == [0, 1]
    finally:
        launcher.terminate()
        launcher.communicate(timeout=TIMEOUT_S)


def test_another_programs_child_is_not_its_job() -> None:
    """A shell or a test runner that starts a job has torch nowhere, and its children are not its ranks."""
    job = [sys.executable, "-c", "import torch; print('ready', flush=True); input()"]
    program = [sys.executable, "-c", f"import subprocess; subprocess.run({job!r})"]
    runner = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert runner.stdout is not None and runner.stdout.readline() == "ready\n"
        with pytest.raises(NoTarget, match="`torchtop ps` lists candidates"):
            find(str(runner.pid))
    finally:
        runner.communicate("\n", timeout=TIMEOUT_S)
