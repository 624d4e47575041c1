"""Edges of gpu-shared."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.advisor import published
from tests.advisor.windows import GIB, NOW, PID, device, process
from torchtop.advisor.judgement import Abstain, Judgement
from torchtop.advisor.rules import gpu_shared
from torchtop.record import GpuProcess, Neighbour
from torchtop.snapshot import Finding

OTHER = 7001


def _judge(held_gib: float, cores: float | None = None, other: int = OTHER, **changes: object) -> Judgement:
    processes = (GpuProcess(PID, 30 * GIB), GpuProcess(other, int(held_gib * GIB)))
    neighbours = () if cores is None else (Neighbour(NOW, other, "python", cores),)
    window = published.job(device(processes=processes), **changes)
    return gpu_shared.check(replace(window, neighbours=neighbours))


@pytest.mark.parametrize(
    ("held_gib", "cores", "severity"),
    [
        (0.5, 1.0, None),  # a desktop
        (3.9, 1.0, None),
        (4.1, None, "info"),
        (4.1, 0.05, "info"),
        (4.1, 0.31, "warn"),
        (20.0, None, "info"),
    ],
)
def test_severity(held_gib: float, cores: float | None, severity: str | None) -> None:
    found = _judge(held_gib, cores)
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_it_names_the_process() -> None:
    found = _judge(20.0, 1.0)
    assert isinstance(found, Finding)
    assert found.where["process"] == OTHER
    assert "20.0 GiB" in found.summary


def test_a_worker_of_the_job_is_no_stranger() -> None:
    assert _judge(20.0, other=5001, workers={5001: (process(NOW, pid=5001),)}) is None


def test_processes_of_another_namespace() -> None:
    window = published.job(device(processes=(GpuProcess(981_223, 30 * GIB),)))
    blind = replace(window, devices=(replace(window.devices[0], job_pids=()),))
    assert isinstance(gpu_shared.check(blind), Abstain)
