"""Edges of host-sync: reading a number of a busy GPU is not a stall."""

from __future__ import annotations

import pytest

from tests.advisor import published
from tests.advisor.windows import PID, device, on_gpu, processes
from torchtop.advisor.engine import judge
from torchtop.advisor.judgement import Judgement
from torchtop.advisor.rules import host_sync
from torchtop.seen import StackCount, Stacks
from torchtop.snapshot import Finding, Frame

_LOOP = Frame(function="main", file="/home/u/train.py", line=10)
_CALLS = Frame(function="_call_impl", file="/opt/lib/python3.11/site-packages/torch/nn/modules/module.py", line=1776)
_BACKWARD = Frame(function="backward", file="/opt/lib/python3.11/site-packages/torch/_tensor.py", line=600)
_LOGS = Frame(function="log_loss", file="/home/u/log.py", line=42)  # value = loss.item()


def _stacks(waiting: int, samples: int = 100) -> Stacks:
    """Of `samples`, so many in `.item()`, which is C and so has no frame; the others in forward and backward."""
    rest = samples - waiting
    counts = (
        StackCount(frames=(_LOGS, _LOOP), count=waiting),
        StackCount(frames=(_CALLS, _LOOP), count=rest // 2),
        StackCount(frames=(_BACKWARD, _LOOP), count=rest - rest // 2),
    )
    return Stacks(pid=PID, samples=samples, rate_hz=20.0, counts=tuple(one for one in counts if one.count))


def _judge(util: float, waiting: int, samples: int = 100) -> Judgement:
    return host_sync.check(on_gpu(device(util=util), stacks=(_stacks(waiting, samples),)))


@pytest.mark.parametrize(
    ("util", "waiting", "severity"),
    [
        (0.97, 60, None),  # the host waits for a GPU that works
        (0.81, 60, None),
        (0.60, 10, None),  # 10 of 100: its interval begins at 0.055
        (0.60, 20, "warn"),
        (0.60, 36, "critical"),
        (0.75, 60, "critical"),  # a quarter of the step is idle
        (0.77, 60, "warn"),
        (0.10, 60, None),  # an idle GPU cannot be what it waits for
        (0.60, 0, None),
    ],
)
def test_severity_by_both_shares(util: float, waiting: int, severity: str | None) -> None:
    found = _judge(util, waiting)
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_it_names_the_line_and_the_smaller_of_both() -> None:
    found = _judge(0.6, 30)
    assert isinstance(found, Finding)
    assert (found.where["file"], found.where["line"], found.where["function"]) == ("/home/u/log.py", 42, "log_loss")
    assert "log.py:42" in found.summary
    assert found.share == pytest.approx(0.3)
    assert found.recoverable_s == pytest.approx(0.03, rel=0.01)


@pytest.mark.parametrize(("cores", "is_found"), [(0.6, False), (0.95, True), (3.0, True), (None, True)])
def test_a_sleeping_process_does_not_wait_for_the_gpu(cores: float | None, is_found: bool) -> None:
    """CUDA spins; `time.sleep` and a slow disk do not, and are host-stall's."""
    window = on_gpu(device(util=0.6), stacks=(_stacks(30),), processes=processes(cpu_share=cores))
    assert isinstance(host_sync.check(window), Finding) == is_found


def test_without_stacks_it_abstains() -> None:
    window = on_gpu(device(util=0.5), stacks_reason="py-spy may not read it")
    assert judge(window, [host_sync]).abstained[0].reason == "py-spy may not read it"


def test_few_samples_abstain() -> None:
    assert judge(on_gpu(device(util=0.5), stacks=(_stacks(15, 30),)), [host_sync]).abstained[0].reason == (
        "30 of 40 samples of the stack were taken"
    )


def test_a_published_idle_gpu_without_a_waiting_line() -> None:
    window = published.job(published.device("2080 ti that is fed too slowly"), stacks=(_stacks(0),))
    assert host_sync.check(window) is None
