"""Two like jobs side by side, one of them watched, and how their memory and the monitor's grows with their steps."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
EVERY_S = 0.25


class Reading(NamedTuple):
    """Resident memory after so many steps of the job."""

    t: float
    steps: int
    rss_bytes: int


def slope(readings: Sequence[Reading]) -> float:
    """Bytes per step, by least squares over the second half of the steps."""
    last = readings[-1].steps
    points = [(reading.steps, reading.rss_bytes) for reading in readings if reading.steps >= last / 2]
    return fitted(points)


def fitted(points: Sequence[tuple[float, float]]) -> float:
    """Slope of the line of least squares; 0 when there is nothing to fit."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def watched_and_alone(steps: int, folder: Path) -> tuple[list[Reading], list[Reading], list[Reading]]:
    """Readings of a job that is watched, of one that is not, and of the monitor."""
    jobs = [_start(folder / name, steps) for name in ("watched", "alone")]
    while not all((folder / name / "ready").exists() for name in ("watched", "alone")):
        time.sleep(0.05)
    command = [sys.executable, "-m", "torchtop", "export", str(jobs[0].pid), "--format", "jsonl"]
    monitor = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT)
    found: dict[str, list[Reading]] = {"watched": [], "alone": [], "monitor": []}
    try:
        while any(job.poll() is None for job in jobs):
            for name, job in zip(("watched", "alone"), jobs, strict=True):
                done = _steps_done(folder / name)
                if job.poll() is None and 0 < done < steps:  # after its last step it gives its memory back
                    found[name].append(Reading(time.monotonic(), done, _rss_bytes(job.pid)))
            if jobs[0].poll() is None and found["watched"]:
                found["monitor"].append(Reading(time.monotonic(), found["watched"][-1].steps, _rss_bytes(monitor.pid)))
            time.sleep(EVERY_S)
        if [job.wait() for job in jobs] != [0, 0] or monitor.wait(60) != 0:
            raise RuntimeError("a job or the monitor ended badly")
    finally:
        for process in (*jobs, monitor):
            if process.poll() is None:
                process.kill()
                process.wait()
    return found["watched"], found["alone"], found["monitor"]


def _start(folder: Path, steps: int) -> subprocess.Popen[bytes]:
    folder.mkdir()
    script = str(ROOT / "tests/targets/bad_job.py")
    files = ["--truth", "truth.json", "--ready", "ready"]
    return subprocess.Popen(
        [sys.executable, script, "--steps", str(steps), *files],
        cwd=folder,
        env={**os.environ, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"},
    )


def _steps_done(folder: Path) -> int:
    """By the size of the step log: its lines are of one length, within a few bytes."""
    log = folder / "truth.json.steps"
    if not log.exists() or not log.stat().st_size:
        return 0
    with open(log, "rb") as file:
        file.seek(max(log.stat().st_size - 2000, 0))
        whole = file.read().split(b"\n")[-2]
    return int(whole.split(b'"step": ')[1].split(b",")[0]) + 1


def _rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
