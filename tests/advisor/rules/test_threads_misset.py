"""Edges of threads-misset: too many threads that wait for a core, too few that leave cores idle."""

from __future__ import annotations

from typing import Any

import pytest

from tests.advisor.windows import NOW, facts, hosts, layer, on_gpu, processes, rank, seen, two_ranks
from torchtop.advisor.engine import judge
from torchtop.advisor.rules import threads_misset
from torchtop.record import Neighbour
from torchtop.seen import Seen
from torchtop.snapshot import Finding


def many(threads: int, delay: float | None, **changes: Any) -> Seen:
    slow = rank(facts=facts(threads=threads), processes=processes(run_delay_share=delay, cpu_share=7.9))
    return seen(slow, host=hosts(cpu_util=1.0), **changes)


@pytest.mark.parametrize(
    ("threads", "delay", "severity"),
    [(8, 0.5, None), (9, 0.09, None), (9, 0.11, "warn"), (64, 0.29, "warn"), (64, 0.5, "critical")],
)
def test_too_many(threads: int, delay: float, severity: str | None) -> None:
    found = threads_misset.check(many(threads, delay))
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_a_neighbour_is_another_reason() -> None:
    busy = (Neighbour(t=NOW, pid=9, name="stress", cores=2.0),)
    assert threads_misset.check(many(16, 0.5, neighbours=busy)) is None


def test_threads_of_all_ranks_count() -> None:
    crowded = {"facts": facts(threads=6), "processes": processes(run_delay_share=0.4, cpu_share=4.0)}
    found = threads_misset.check(two_ranks(crowded, crowded))
    assert isinstance(found, Finding)
    assert "12 threads of torch on 8 cores" in found.summary


def few(threads: int, idle: float, flops: float = 1e9, share: float = 0.8, cores: float = 8.0) -> Seen:
    slow = rank(
        facts=facts(threads=threads),
        processes=processes(cpu_share=float(threads)),
        layers=(layer("fc", share, flops=flops),),
    )
    return seen(slow, host=hosts(cpu_util=1 - idle / 8), usable_cores=cores)


@pytest.mark.parametrize(
    ("window", "fires"),
    [
        (few(1, 7.0), True),
        (few(4, 4.0), True),
        (few(5, 3.0), False),  # more than half of the cores
        (few(1, 5.0), False),  # others use them
        (few(1, 7.0, flops=4e7), False),  # too small to share
        (few(1, 7.0, share=0.45), False),
        (few(1, 7.0, cores=1.0), False),
    ],
)
def test_too_few_is_told_and_no_more(window: Seen, fires: bool) -> None:
    found = threads_misset.check(window)
    assert isinstance(found, Finding) == fires
    if isinstance(found, Finding):
        assert found.severity == "info"
        assert found.recoverable_s is None


def test_threads_that_were_not_told_abstain() -> None:
    verdict = judge(seen(rank(facts=facts(threads=None))), [threads_misset])
    assert "was not told" in verdict.abstained[0].reason


def test_a_job_on_a_gpu_is_not_judged() -> None:
    verdict = judge(on_gpu(), [threads_misset])
    assert verdict.abstained[0].reason == "the job computes on a GPU"
