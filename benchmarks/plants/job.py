"""What each of these jobs says of itself: how long its steps took, and which lines are planted.

A line that ends in the marker below is the cause of what is planted; with `--cured` the job never comes there.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

MARKER = "# planted"


def planted(files: tuple[str, ...]) -> list[tuple[str, int]]:
    """(file, line) of every line of these files that carries the marker."""
    return [
        (str(Path(file).resolve()), number)
        for file in files
        for number, line in enumerate(Path(file).read_text().splitlines(), 1)
        if line.rstrip().endswith(MARKER)
    ]


class Job:
    """One rank of a job. `code` is what is planted in it, `files` are where; None for a healthy one."""

    def __init__(self, code: str | None, *files: str) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("--cured", action="store_true", help="the same job without what is planted")
        parser.add_argument("--log", type=Path, default=Path("."), help="folder for its own account")
        parser.add_argument("--seconds", type=float, default=math.inf, help="end by itself after so many")
        args, _ = parser.parse_known_args()
        self.cured: bool = args.cured
        rank = os.environ.get("RANK", "0")
        truth = {
            "pid": os.getpid(),
            "code": None if self.cured else code,
            "places": [] if self.cured else planted(files),
        }
        (args.log / f"truth-{rank}.json").write_text(json.dumps(truth))
        self._steps = open(args.log / f"steps-{rank}", "w", buffering=1)  # noqa: SIM115  # open until the job is killed
        self._before = time.monotonic()
        self._until = self._before + args.seconds

    def step(self, samples: int) -> None:
        """One optimizer step, or one answer, is over: writes when (s, monotonic), how long (s) and of how many samples."""
        now = time.monotonic()
        self._steps.write(f"{now:.6f} {now - self._before:.6f} {samples}\n")
        self._before = now
        if now > self._until:
            sys.exit()
