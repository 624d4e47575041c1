"""Does memory grow with the steps that are watched? In the job, against the same job unwatched, and in the monitor.

python benchmarks/endurance.py [STEPS]: 300,000 unless told, some four minutes. Both jobs run at the same time; resident memory is read four
times a second, and a line fitted through the second half: the first is warm-up. Exit code 1 when a bar is exceeded.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.endurance import fitted, slope, watched_and_alone

JOB_BYTES = 20.0  # a step that watching may add to the job: 2 MB in 100,000
MONITOR_BYTES = 2 << 20  # a minute that the monitor may grow once its window is full
WINDOW_S = 100.0  # s after which the window of an endless export is full (export._HORIZON_S), and all has settled


def main() -> int:
    parser = argparse.ArgumentParser(description="Memory over many watched steps.")
    parser.add_argument("steps", type=int, nargs="?", default=300_000)
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as folder:
        watched, alone, monitor = watched_and_alone(steps, Path(folder))
    job = slope(watched) - slope(alone)
    print(f"job: {slope(watched):+.2f} bytes a step watched, {slope(alone):+.2f} alone: {job:+.2f}, bar {JOB_BYTES:g}")
    full = [(reading.t, reading.rss_bytes) for reading in monitor if reading.t > monitor[0].t + WINDOW_S]
    if len(full) < 20:
        print("monitor: not resolved, its window was not full for long enough: give more steps")
        return 2
    grown = fitted(full) * 60
    print(f"monitor: {grown / 1024:+.0f} KiB a minute, bar {MONITOR_BYTES // 1024}; at most {max(y for _, y in full)}")
    return int(job > JOB_BYTES or grown > MONITOR_BYTES)


if __name__ == "__main__":
    sys.exit(main())
