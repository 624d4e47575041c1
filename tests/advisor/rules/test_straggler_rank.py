"""Edges of straggler-rank: who is waited for, in which phase, and ranks that do not wait for each other."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.advisor.waits import waiting
from tests.advisor.windows import PID, facts, phases, processes, rank, rows, seen, two_ranks
from torchtop.advisor.judgement import Abstain
from torchtop.advisor.rules import straggler_rank
from torchtop.seen import Seen, StackCount, Stacks
from torchtop.snapshot import Finding, Frame


def late(by: float, **changes: Any) -> Seen:
    """Two ranks with steps of the same length: the first waits `by` of each for the second, which computes it forward."""
    slow = {
        "steps": waiting(0.0, forward=0.32, backward=0.6 - by),
        "phases": phases(forward=0.32 + by, backward=0.6 - by),
    }
    return two_ranks({"steps": waiting(by), "phases": phases(), **changes}, {**slow, **changes})


@pytest.mark.parametrize(("by", "severity"), [(0.0, None), (0.08, None), (0.12, "warn"), (0.3, "critical")])
def test_severity_by_what_the_others_wait(by: float, severity: str | None) -> None:
    found = straggler_rank.check(late(by))
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_it_names_rank_and_phase() -> None:
    found = straggler_rank.check(late(0.3))
    assert isinstance(found, Finding)
    assert (found.where["rank"], found.where["phase"]) == (1, "forward")
    assert found.recoverable_s == pytest.approx(0.03, rel=0.05)
    assert "in forward" in found.summary


def test_the_loader_of_one_rank() -> None:
    found = straggler_rank.check(
        two_ranks({"steps": waiting(0.3)}, {"steps": waiting(0.0, data=0.305, backward=0.3), "phases": phases()})
    )
    assert isinstance(found, Finding)
    assert found.where["phase"] == "data"


def early(in_forward: float, cpu: float, late_waits: float = 0.0, **of_late: Any) -> Seen:
    """The second rank is `in_forward` (a share of the step) in forward and uses `cpu` cores; the first loads meanwhile."""
    loads = {
        "steps": waiting(late_waits, data=0.505, forward=0.12, backward=0.3),
        "phases": phases(data=0.5, forward=0.1),
    }
    computes = {"steps": waiting(0.0, backward=0.3), "phases": phases(forward=in_forward, backward=0.3, data=0.0)}
    of_second = processes(cpu_share=cpu, run_delay_share=0.0, pid=4002, rank_pid=4002)
    return two_ranks({**loads, **of_late}, {**computes, "processes": of_second})


@pytest.mark.parametrize(
    ("cpu", "late_waits", "late_rank"),
    [
        (0.45, 0.0, 0),  # 0.3 of it in backward: no more than 0.15 of 0.6 can be computing
        (0.9, 0.0, None),  # it computes all the time
        (0.45, 0.45, 1),  # held up in its own forward: the first waits for it
    ],
)
def test_who_is_early_may_wait_in_forward_for_buffers(cpu: float, late_waits: float, late_rank: int | None) -> None:
    found = straggler_rank.check(early(0.6, cpu, late_waits))
    assert (found.where["rank"] if isinstance(found, Finding) else None) == late_rank
    if late_rank is not None:
        assert isinstance(found, Finding)
        assert (found.where["phase"], found.severity) == (("data", "forward")[late_rank], "critical")


def test_who_waited_for_a_checkpoint_of_another_rank_did_not_wait_in_forward() -> None:
    """Half of the time its process is idle; while it computes it uses all of a core."""
    job = early(0.6, 0.9)
    readings = tuple(replace(one, cpu_share=0.0) if at % 2 else one for at, one in enumerate(job.ranks[1].processes))
    job = replace(job, ranks=(job.ranks[0], replace(job.ranks[1], processes=readings)))
    assert straggler_rank.check(job) is None


def test_it_names_the_line_that_loads() -> None:
    fetch = Frame(function="fetch", file="/env/site-packages/torch/utils/data/_utils/fetch.py", line=54)
    reads = Frame(function="__getitem__", file="/job/train.py", line=30)
    stacks = (Stacks(pid=PID, samples=40, rate_hz=20.0, counts=(StackCount(frames=(reads, fetch), count=40),)),)
    alone = facts(distributed=two_ranks().ranks[0].facts.distributed, roots=("DistributedDataParallel",), loader=None)
    found = straggler_rank.check(early(0.6, 0.45, stacks=stacks, facts=alone))
    assert isinstance(found, Finding)
    assert (found.where["file"], found.where["line"]) == ("/job/train.py", 30)
    assert "train.py:30" in found.summary


def test_few_steps_are_not_critical() -> None:
    fast, slow = waiting(0.3, count=15), waiting(0.0, count=15, backward=0.3)
    found = straggler_rank.check(two_ranks({"steps": fast}, {"steps": slow}))
    assert isinstance(found, Finding)
    assert found.severity == "warn"


def test_noise_is_no_straggler() -> None:
    noisy = [{"steps": waiting(0.15, lot=lot, uneven=0.15)} for lot in range(2)]
    assert straggler_rank.check(two_ranks(*noisy)) is None


def test_ranks_that_do_not_wait_for_each_other() -> None:
    """Runs of a search: without a process group; or with one, but nobody waits."""
    assert straggler_rank.check(seen(rank(0), rank(1, steps=rows(step_s=0.2)))) is None
    nobody_waits = two_ranks({"steps": waiting(0.0)}, {"steps": tuple(r._replace(step_s=0.2) for r in waiting(0.0))})
    assert straggler_rank.check(nobody_waits) is None


def test_without_ddp_or_its_wait_it_abstains() -> None:
    ranks = two_ranks().ranks
    known = facts(distributed=ranks[0].facts.distributed, roots=("FullyShardedDataParallel",))
    assert isinstance(straggler_rank.check(late(0.3, facts=known)), Abstain)
    unknown = tuple(row._replace(backward_wait_s=None) for row in rows())
    assert isinstance(straggler_rank.check(two_ranks({"steps": unknown}, {"steps": unknown})), Abstain)


def test_one_of_eight() -> None:
    known = two_ranks().ranks[0].facts
    fast = [rank(number, steps=waiting(0.3), facts=known) for number in range(7)]
    found = straggler_rank.check(seen(*fast, rank(7, steps=waiting(0.0), facts=known)))
    assert isinstance(found, Finding)
    assert found.where["rank"] == 7


def test_a_crowded_core_is_told() -> None:
    crowded = processes(run_delay_share=0.2, pid=4002, rank_pid=4002)
    job = two_ranks({"steps": waiting(0.3)}, {"steps": waiting(0.1, backward=0.3), "processes": crowded})
    found = straggler_rank.check(job)
    assert isinstance(found, Finding)
    assert "ready, but without a CPU" in {one.name for one in found.evidence}
