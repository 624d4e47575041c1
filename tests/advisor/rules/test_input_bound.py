"""Edges of input-bound, and what it must not take for waiting."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.advisor.windows import NOW, PID, device, facts, healthy_layers, hosts, on_gpu, processes, rank, rows, seen
from torchtop.advisor.engine import judge
from torchtop.advisor.rules import input_bound
from torchtop.probe import wire
from torchtop.record import StepRow
from torchtop.seen import LoaderFacts, StackCount, Stacks
from torchtop.snapshot import Finding, Frame


@pytest.mark.parametrize(
    ("data", "severity"), [(0.0, None), (0.09, None), (0.12, "warn"), (0.39, "warn"), (0.42, "critical")]
)
def test_severity_by_the_share_that_is_waited(data: float, severity: str | None) -> None:
    found = input_bound.check(seen(rank(steps=rows(data=data))))
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_it_gives_back_what_is_waited() -> None:
    found = input_bound.check(seen(rank(steps=rows(data=0.5), facts=facts(loader=LoaderFacts(workers=0)))))
    assert isinstance(found, Finding)
    assert found.recoverable_s == pytest.approx(0.05, rel=0.01)
    assert "in the training thread itself" in found.summary


def test_a_wait_within_the_noise_is_none() -> None:
    """Two of sixty steps wait, all the others do not: the mean is above 10 %, its interval is not."""
    calm, waiting = rows(58, data=0.0), rows(2, 0.7, data=0.9)
    found = input_bound.check(seen(rank(steps=(*calm, *waiting))))
    assert found is None


def test_too_few_steps_abstain() -> None:
    verdict = judge(seen(rank(steps=rows(9, data=0.9))), [input_bound])
    assert verdict.findings == ()
    assert verdict.abstained[0].reason == "9 of 10 steps were seen"


def epochs(count: int, steps: int, start_s: float) -> tuple[StepRow, ...]:
    """Epochs of `steps` steps of 0.1 s, each begun with a wait of `start_s`."""
    found, t = [], NOW - count * (steps * 0.1 + start_s)
    for _ in range(count):
        for at in range(steps):
            wait = start_s if at == 0 else 0.001
            t += 0.1 + (wait if at == 0 else 0.0)
            flags = wire.FIRST_OF_EPOCH if at == 0 else 0
            length = 0.1 + (wait if at == 0 else 0.0)
            found.append(StepRow(t, length, flags, 1, 32.0, wait, 0.06, 0.005, 0.0))
    return tuple(found)


@pytest.mark.parametrize(
    ("count", "start_s", "severity"),
    [
        (1, 5.0, None),  # once only: warm-up
        (2, 0.4, None),
        (2, 1.0, "warn"),
        (5, 0.15, None),
        (5, 0.5, "warn"),
        (5, 3.0, "critical"),
    ],
)
def test_the_start_of_workers_counts_where_it_recurs(count: int, start_s: float, severity: str | None) -> None:
    found = input_bound.check(seen(rank(steps=epochs(count, 40, start_s))))
    assert (found.severity if isinstance(found, Finding) else None) == severity
    if isinstance(found, Finding):
        assert "start anew with each epoch (persistent_workers is off)" in found.summary
        assert found.remedies == ()


def test_the_loader_of_a_validation_is_not_the_start_of_an_epoch() -> None:
    steps = tuple(
        row._replace(flags=row.flags | wire.VALIDATION) if row.flags & wire.FIRST_OF_EPOCH else row
        for row in epochs(5, 40, 3.0)
    )
    assert input_bound.check(seen(rank(steps=steps))) is None


def test_epochs_of_one_step_are_the_usual_case() -> None:
    found = input_bound.check(seen(rank(steps=rows(flags=wire.FIRST_OF_EPOCH, data=0.5), plain=rows(data=0.5))))
    assert isinstance(found, Finding)
    assert found.share == pytest.approx(0.5, rel=0.02)


POLICY = (
    Frame(function="forward", file="/job/policy.py", line=8),
    Frame(function="_call_impl", file="/x/site-packages/torch/nn/modules/module.py", line=1780),
    Frame(function="__iter__", file="/job/rollout.py", line=30),
    Frame(function="__next__", file="/x/site-packages/torch/utils/data/dataloader.py", line=741),
)


@pytest.mark.parametrize(("calls", "depth", "severity"), [(9, 0, "info"), (1, 0, "critical"), (9, 2, "critical")])
def test_a_dataset_that_acts_is_no_loader_to_be_made_faster(calls: int, depth: int, severity: str) -> None:
    """Transforms may be modules, and a model may be called twice a step: only both together are a policy that acts."""
    stacks = Stacks(pid=PID, samples=40, rate_hz=20.0, counts=(StackCount(frames=POLICY[depth:], count=30),))
    layers = tuple(replace(one, calls=float(calls)) for one in healthy_layers())
    found = input_bound.check(seen(rank(steps=rows(data=0.5), stacks=(stacks,), layers=layers)))
    assert isinstance(found, Finding)
    assert found.severity == severity


def worker(pid: int, cores: float, **changes: Any) -> dict[int, object]:
    return {pid: processes(pid=pid, cpu_share=cores, **changes)}


@pytest.mark.parametrize(
    ("cores", "machine", "says", "remedies"),
    [
        (0.98, 0.3, "compute all the time", ("more-workers",)),
        (0.98, 1.0, "no core is idle", ()),
        (0.05, 0.3, "wait rather than compute", ("more-workers",)),
    ],
)
def test_what_is_behind_it(cores: float, machine: float, says: str, remedies: tuple[str, ...]) -> None:
    slow = rank(steps=rows(data=0.5), workers={**worker(5001, cores), **worker(5002, cores)})
    found = input_bound.check(seen(slow, host=hosts(cpu_util=machine)))
    assert isinstance(found, Finding)
    assert says in found.summary
    assert found.remedies == remedies


def test_a_disk_that_holds_the_workers_up_is_named() -> None:
    slow = rank(steps=rows(data=0.5), workers=worker(5001, 0.1, read_bytes_per_s=8e7))
    found = input_bound.check(seen(slow, host=hosts(io_pressure=0.4)))
    assert isinstance(found, Finding)
    assert "wait for the disk" in found.summary
    assert {"read from storage", "waiting for a disk (PSI)"} <= {one.name for one in found.evidence}


def test_the_line_comes_from_stacks_else_from_the_dataset() -> None:
    begins = Frame(function="__getitem__", file="/job/data.py", line=10)
    loader = LoaderFacts(workers=0, dataset="Pages", dataset_at=begins)
    without = input_bound.check(seen(rank(steps=rows(data=0.5), facts=facts(loader=loader))))
    assert isinstance(without, Finding)
    assert (without.where["file"], without.where["line"]) == ("/job/data.py", 10)
    frames = (
        Frame(function="decode", file="/job/data.py", line=31),
        Frame(function="__getitem__", file="/job/data.py", line=12),
        Frame(function="fetch", file="/x/site-packages/torch/utils/data/_utils/fetch.py", line=54),
        Frame(function="__next__", file="/x/site-packages/torch/utils/data/dataloader.py", line=741),
        Frame(function="main", file="/job/train.py", line=20),
    )
    burst = Stacks(pid=4001, samples=40, rate_hz=20.0, counts=(StackCount(frames=frames, count=30),))
    found = input_bound.check(seen(rank(steps=rows(data=0.5), facts=facts(loader=loader), stacks=(burst,))))
    assert isinstance(found, Finding)
    assert (found.where["line"], found.where["function"]) == (31, "decode")


def test_a_busy_cpu_that_trains_is_no_loader_problem() -> None:
    """gpuprof 0.7.1 calls this CPU-bound workers: all cores are busy, and nothing is waited for."""
    busy = processes(cpu_share=8.0)
    slow = rank(processes=busy, workers={**worker(5001, 0.9), **worker(5002, 0.9)})
    assert input_bound.check(seen(slow, host=hosts(cpu_util=1.0))) is None


@pytest.mark.parametrize(("util", "fires"), [(0.95, False), (0.82, False), (0.6, True)])
def test_a_busy_gpu_hides_what_the_host_waits(util: float, fires: bool) -> None:
    found = input_bound.check(on_gpu(device(util=util), steps=rows(data=0.5)))
    assert isinstance(found, Finding) if fires else found is None
