"""A few of the jobs of benchmarks/plants, watched through the real attach: what is planted comes first, all else is silent.

The whole of them is benchmarks/diagnosis.py. These are so bad, and these so well, that a busy machine does not hide it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PATIENCE_S, TORCHTOP

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from planted_jobs import HEALTHY, PLANTED, Plant, running

WATCHED = "8s"
OF_THE_MACHINE = {"host-contended", "swapping"}  # true of a machine that others use, and nothing of the job


def chosen(plants: tuple[Plant, ...], *names: str) -> list[Plant]:
    return [next(plant for plant in plants if plant.name == name) for name in names]


def said_of(plant: Plant) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The findings on the job itself, which was just started, first one first, and what the job says is planted in it."""
    with running(plant) as job:
        job.wait_begun(max(5, plant.period))
        done = subprocess.run(
            [*TORCHTOP, "advise", str(job.pid), "--for", WATCHED, "--json"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        findings = [found for found in json.loads(done.stdout)["findings"] if found["code"] not in OF_THE_MACHINE]
        return findings, job.truth()


@pytest.mark.parametrize(
    "plant",
    chosen(PLANTED, "input-bound/collate", "host-stall/report", "checkpoint-stall/inline", "unfused-optimizer/wide"),
    ids=lambda plant: plant.name,
)
def test_what_is_planted_comes_first(plant: Plant) -> None:
    findings, truth = said_of(plant)
    assert [finding["code"] for finding in findings][:1] == [truth["code"]], findings
    if plant.code in ("host-stall", "checkpoint-stall"):
        where = findings[0]["where"]
        assert [Path(where["file"]).name, where["line"]] in [[Path(file).name, line] for file, line in truth["places"]]


@pytest.mark.parametrize(
    "plant", chosen(HEALTHY, "healthy/mlp", "healthy/gpt", "healthy/epochs"), ids=lambda plant: plant.name
)
def test_a_healthy_job_is_not_warned(plant: Plant) -> None:
    findings, _ = said_of(plant)
    assert [finding for finding in findings if finding["severity"] != "info"] == []
