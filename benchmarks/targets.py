"""Programs of tests/targets, as the benchmarks start them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.conftest import TARGETS, Target


def start(folder: Path, script: str, *arguments: str) -> Target:
    """A target with its files in `folder`, which is made; not yet in its loop."""
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(TARGETS / script), *arguments]
        + ["--truth", "truth.json", "--ready", "ready", "--stop", "stop"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"},
    )
    return Target(process, folder)
