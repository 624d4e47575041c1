"""Edges of activation-heavy, optimizer-state-heavy and replicated-state: shares, sizes, and whether memory is short."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from msgspec.structs import replace

from tests.advisor.windows import GIB, device, facts, hosts, layer, on_gpu, processes, rank, seen, two_ranks
from torchtop.advisor.engine import judge
from torchtop.advisor.judgement import Abstain
from torchtop.advisor.rules import activation_heavy, optimizer_state_heavy, replicated_state
from torchtop.seen import Allocator, OptimizerFacts, Seen
from torchtop.snapshot import Finding

MIB = 1 << 20


def severity(rule: ModuleType, job: Seen) -> str | None:
    found = rule.check(job)
    return found.severity if isinstance(found, Finding) else None


def activations(size: int, rss: int = GIB, memory: int = 64 * GIB, **changes: Any) -> Seen:
    fields = {"layers": (layer("fc", 0.5, activation_bytes=size),), "processes": processes(rss_bytes=rss), **changes}
    return seen(rank(**fields), host=hosts(memory_bytes=memory))


@pytest.mark.parametrize(
    ("size", "rss", "memory", "told"),
    [
        (307 * MIB, GIB, 64 * GIB, None),
        (308 * MIB, GIB, 64 * GIB, "info"),
        (127 * MIB, 200 * MIB, 64 * GIB, None),  # little in all
        (700 * MIB, GIB, 1.27 * GIB, "info"),
        (700 * MIB, GIB, 1.24 * GIB, "warn"),
    ],
)
def test_activations(size: int, rss: int, memory: float, told: str | None) -> None:
    assert severity(activation_heavy, activations(size, rss, int(memory))) == told


def test_activations_of_one_pass_of_several_and_of_none_that_is_done_again() -> None:
    assert severity(activation_heavy, activations(800 * MIB)) == "info"
    assert severity(activation_heavy, activations(800 * MIB, micro_steps=4.0)) is None
    again = (layer("fc", 0.5, activation_bytes=800 * MIB, recompute_s=0.01),)
    assert isinstance(activation_heavy.check(activations(0, layers=again)), Abstain)


@pytest.mark.parametrize(("peak", "told"), [(10 * GIB, None), (60 * GIB, "info"), (74 * GIB, "warn")])
def test_activations_on_a_gpu(peak: int, told: str | None) -> None:
    """Of 80 GiB; parameters, gradients and state are 8 GiB."""
    allocator = (Allocator(t=1.0, allocated_bytes=peak // 2, reserved_bytes=peak, peak_bytes=peak),)
    parts = {"parameters_bytes": 2 * GIB, "gradients_bytes": 2 * GIB, "optimizer_bytes": 4 * GIB}
    assert severity(activation_heavy, on_gpu(device(), allocator=allocator, **parts)) == told


def test_memory_of_the_gpu_that_the_rank_computes_on() -> None:
    """The driver of a container names no process: the environment says that it is the second, of 16 GiB."""
    small = device(index=1, uuid="GPU-1", memory_total_bytes=16 * GIB, memory_used_bytes=15 * GIB)
    told = facts(devices=("cuda",), environment={"CUDA_VISIBLE_DEVICES": "1"})
    allocator = (Allocator(t=1.0, allocated_bytes=GIB, reserved_bytes=15 * GIB, peak_bytes=14 * GIB),)
    job = on_gpu(
        *(replace(one, job_pids=()) for one in (device(), small)),
        allocator=allocator,
        facts=told,
        **dict.fromkeys(("parameters_bytes", "gradients_bytes", "optimizer_bytes"), GIB),
    )
    assert severity(activation_heavy, job) == "warn"


@pytest.mark.parametrize(
    ("state", "rss", "memory", "told"),
    [
        (307 * MIB, GIB, 64 * GIB, None),
        (308 * MIB, GIB, 64 * GIB, "info"),
        (127 * MIB, 200 * MIB, 64 * GIB, None),
        (500 * MIB, GIB, 1.24 * GIB, "warn"),
    ],
)
def test_optimizer_state(state: int, rss: int, memory: float, told: str | None) -> None:
    job = seen(rank(optimizer_bytes=state, processes=processes(rss_bytes=rss)), host=hosts(memory_bytes=int(memory)))
    assert severity(optimizer_state_heavy, job) == told


def replicas(state: int, memory: float = 64 * GIB, **changes: Any) -> Seen:
    ranks = two_ranks(optimizer_bytes=state, processes=processes(rss_bytes=GIB), **changes).ranks
    return seen(*ranks, host=hosts(memory_bytes=int(memory), memory_available_bytes=int(memory) - 2 * GIB))


@pytest.mark.parametrize(
    ("state", "memory", "told"),
    [(200 * MIB, 64 * GIB, None), (220 * MIB, 64 * GIB, "info"), (600 * MIB, 2.4 * GIB, "warn")],
)
def test_replicated_state(state: int, memory: float, told: str | None) -> None:
    """Of 2 ranks with 1 GiB each, half of the state could go."""
    assert severity(replicated_state, replicas(state, memory)) == told


def test_one_rank_or_a_sharded_state_is_left_alone() -> None:
    assert replicated_state.check(seen(rank(optimizer_bytes=600 * MIB))) is None
    known = replicas(600 * MIB).ranks[0].facts
    sharded = OptimizerFacts(kind="ZeroRedundancyOptimizer", module="torch.distributed.optim")
    as_now = facts(distributed=known.distributed, roots=known.roots)
    assert replicated_state.check(replicas(600 * MIB, facts=as_now)) is not None
    split = facts(distributed=known.distributed, roots=known.roots, optimizers=(sharded,))
    assert replicated_state.check(replicas(600 * MIB, facts=split)) is None
    fully = facts(distributed=known.distributed, roots=("FullyShardedDataParallel",))
    assert replicated_state.check(replicas(600 * MIB, facts=fully)) is None


def test_of_both_the_copies_are_told() -> None:
    verdict = judge(replicas(600 * MIB), [optimizer_state_heavy, replicated_state])
    assert [found.code for found in verdict.findings] == ["replicated-state"]
    assert verdict.abstained[0].reason == "explained by replicated-state"


@pytest.mark.parametrize("rule", [activation_heavy, optimizer_state_heavy])
def test_memory_that_was_not_read_abstains(rule: ModuleType) -> None:
    assert isinstance(rule.check(seen(rank(processes=()))), Abstain)
    assert isinstance(rule.check(on_gpu()), Abstain)
