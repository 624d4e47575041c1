"""Edges of comm-bound, and waiting that is no communication."""

from __future__ import annotations

from typing import Any

import pytest

from tests.advisor.waits import waiting
from tests.advisor.windows import PID, facts, on_gpu, phases, processes, rank, seen, two_ranks
from torchtop.advisor.engine import judge
from torchtop.advisor.judgement import Abstain
from torchtop.advisor.rules import comm_bound, unsynced_accumulation
from torchtop.seen import DistributedFacts, Seen
from torchtop.snapshot import Finding

DDP = {"distributed": DistributedFacts(backend="gloo", rank=0, world_size=2), "roots": ("DistributedDataParallel",)}


def job(first: float, second: float, **of_both: Any) -> Seen:
    return two_ranks({"steps": waiting(first)}, {"steps": waiting(second)}, **of_both)


@pytest.mark.parametrize(
    ("first", "second", "severity"),
    [
        (0.0, 0.0, None),
        (0.19, 0.19, None),
        (0.21, 0.21, "warn"),
        (0.41, 0.45, "critical"),
        (0.5, 0.05, None),  # the first one waits for the second
    ],
)
def test_severity_by_the_rank_that_waits_least(first: float, second: float, severity: str | None) -> None:
    found = comm_bound.check(job(first, second))
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_ranks_that_wait_for_each_other_in_turn_do_not_communicate() -> None:
    """Each waits 0.3 of a step in every other step: both on average 0.15, and never together."""
    first, second = waiting(0.0), waiting(0.0)
    first = tuple(row._replace(backward_wait_s=0.05 * (at % 2)) for at, row in enumerate(first))
    second = tuple(row._replace(backward_wait_s=0.05 * (1 - at % 2)) for at, row in enumerate(second))
    assert comm_bound.check(two_ranks({"steps": first}, {"steps": second})) is None


def test_a_thread_without_a_cpu_does_not_communicate() -> None:
    assert isinstance(comm_bound.check(job(0.25, 0.25)), Finding)
    crowded = processes(run_delay_share=0.3)
    assert comm_bound.check(job(0.25, 0.25, processes=crowded)) is None


@pytest.mark.parametrize(
    "changes",
    [{"facts": facts(threads=4, **DDP)}, {"facts": facts(**{**DDP, "roots": ("FullyShardedDataParallel",)})}],
    ids=["threads", "no DDP"],
)
def test_what_looks_the_same_abstains(changes: dict[str, Any]) -> None:
    assert isinstance(comm_bound.check(job(0.5, 0.5, **changes)), Abstain)


def test_ranks_elsewhere_may_be_waited_for() -> None:
    assert isinstance(comm_bound.check(seen(*job(0.5, 0.5).ranks, world_size=16)), Abstain)


def test_one_rank_or_none_that_talk_is_well() -> None:
    assert comm_bound.check(seen()) is None
    alone = tuple(rank(number, steps=waiting(0.5)) for number in range(2))
    assert comm_bound.check(seen(*alone)) is None


def test_a_rank_that_vanished_has_no_steps_to_match() -> None:
    gone = waiting(0.5)
    late = tuple(row._replace(t_end=row.t_end + 500.0) for row in gone)
    assert isinstance(comm_bound.check(two_ranks({"steps": gone}, {"steps": late})), Abstain)


def test_on_a_gpu_the_exposed_communication_counts() -> None:
    known = facts(devices=("cuda",), **DDP)
    held = on_gpu(phases=phases(communication=0.3, forward=0.2, backward=0.4), facts=known).ranks[0]
    twice = (held, held)
    found = comm_bound.check(seen(*twice))
    assert isinstance(found, Finding)
    assert found.where["pid"] == PID
    assert isinstance(comm_bound.check(seen(*on_gpu(facts=known).ranks * 2)), Abstain)


def accumulating(passes: float, synced: float | None, wait: float = 0.3, **changes: Any) -> Seen:
    return job(wait, wait, micro_steps=passes, facts=facts(synced_passes=synced, **DDP, **changes))


@pytest.mark.parametrize(
    ("passes", "synced", "wait", "severity"),
    [
        (1.0, 1.0, 0.3, None),
        (4.0, 1.0, 0.3, None),
        (4.0, 4.0, 0.3, "warn"),
        (4.0, 4.0, 0.06, "info"),
        (2.0, 2.0, 0.12, "warn"),
        (2.0, 2.0, 0.08, "info"),
        (1.2, 1.2, 0.3, None),
    ],
)
def test_accumulation(passes: float, synced: float, wait: float, severity: str | None) -> None:
    found = unsynced_accumulation.check(accumulating(passes, synced, wait))
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_accumulation_gives_back_all_exchanges_but_one() -> None:
    found = unsynced_accumulation.check(accumulating(4.0, 4.0))
    assert isinstance(found, Finding)
    assert found.recoverable_s == pytest.approx(0.3 * 0.1 * 0.75, rel=0.02)


def test_accumulation_with_threads_knows_no_time() -> None:
    found = unsynced_accumulation.check(accumulating(4.0, 4.0, threads=2))
    assert isinstance(found, Finding)
    assert (found.severity, found.recoverable_s) == ("info", None)


def test_two_models_exchange_once_each() -> None:
    optimizers = facts().optimizers * 2
    assert isinstance(unsynced_accumulation.check(accumulating(2.0, 2.0, optimizers=optimizers)), Abstain)
    assert isinstance(unsynced_accumulation.check(accumulating(2.0, None)), Abstain)


def test_exchanges_for_nothing_explain_the_communication() -> None:
    verdict = judge(accumulating(4.0, 4.0), [comm_bound, unsynced_accumulation])
    assert [found.code for found in verdict.findings] == ["unsynced-accumulation"]
    assert verdict.abstained[0].reason == "explained by unsynced-accumulation"
