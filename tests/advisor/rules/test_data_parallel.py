"""Edges of data-parallel."""

from __future__ import annotations

import pytest

from tests.advisor import published
from tests.advisor.windows import GIB, PID, device
from torchtop.advisor.judgement import Abstain, Judgement
from torchtop.advisor.rules import data_parallel
from torchtop.record import GpuProcess
from torchtop.seen import DeviceSeen
from torchtop.snapshot import Finding


def _gpu(index: int, held_bytes: int, util: float = 0.4) -> DeviceSeen:
    return device(index=index, util=util, processes=(GpuProcess(PID, held_bytes),))


def _judge(*devices: DeviceSeen, root: str = "DataParallel") -> Judgement:
    return data_parallel.check(published.job(*devices, facts=published.on_cuda(roots=(root,))))


@pytest.mark.parametrize(
    ("root", "severity"), [("DataParallel", "warn"), ("DistributedDataParallel", None), ("GPT", None)]
)
def test_by_the_root(root: str, severity: str | None) -> None:
    found = _judge(_gpu(0, 12 * GIB), _gpu(1, 9 * GIB), root=root)
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_it_gives_back_what_the_gpus_are_idle() -> None:
    found = _judge(_gpu(0, 12 * GIB, util=0.6), _gpu(1, 9 * GIB, util=0.4))
    assert isinstance(found, Finding)
    assert found.where["devices"] == [0, 1]
    assert found.recoverable_s == pytest.approx(0.05, rel=0.01)


def test_one_gpu_and_a_mere_context() -> None:
    assert _judge(_gpu(0, 12 * GIB), _gpu(1, GIB // 2)) is None


def test_gpus_of_unknown_processes() -> None:
    blind = [DeviceSeen(readings=_gpu(at, GIB).readings) for at in range(2)]
    found = _judge(*blind)
    assert isinstance(found, Abstain) and "which of 2 GPUs" in found.reason
