"""Edges of small-batch, and small batches that are well."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.advisor.windows import GIB, device, facts, hosts, layer, on_gpu, processes, rank, rows, seen
from torchtop.advisor.judgement import Abstain
from torchtop.advisor.rules import small_batch
from torchtop.seen import Allocator, DistributedFacts, LoaderFacts, OptimizerFacts, Seen
from torchtop.snapshot import Finding, Layer


def linear(name: str, share: float, rows_: int, calls: float = 1.0) -> Layer:
    """A layer of 1024 x 1024 whose input has `rows_` rows."""
    flops, weights = 2.0 * rows_ * 1024 * 1024, 1024 * 1024
    return layer(name, share, flops=flops, parameters=weights, output_shape=(rows_, 1024), calls=calls)


def job(batch: int | None, rows_: int, optimizer: float = 0.05, memory: int = 64 * GIB, **changes: Any) -> Seen:
    """Three quarters of the step are in layers that see `rows_` rows."""
    known = changes.pop("facts", facts(optimizers=()))
    loader = None if known.loader is None else replace(known.loader, batch_size=batch)
    changes = {"batch_size": batch, "facts": replace(known, loader=loader), **changes}
    fields = {"layers": tuple(linear(f"fc{at}", 0.25, rows_) for at in range(3)), "micro_batch_size": batch, **changes}
    return seen(rank(steps=rows(optimizer=optimizer), **fields), host=hosts(memory_bytes=memory))


def severity(of: Seen) -> str | None:
    found = small_batch.check(of)
    return found.severity if isinstance(found, Finding) else None


@pytest.mark.parametrize(
    ("batch", "rows_", "told"),
    [
        (1, 1, "warn"),  # 0.05 + 0.75 * 16 / 17
        (7, 8, "warn"),
        (8, 8, "info"),  # a default
        (7, 17, "warn"),  # 0.05 + 0.75 * 16 / 33 = 0.41
        (7, 19, None),  # 0.05 + 0.75 * 16 / 35 = 0.39
        (16, 8, "info"),
        (17, 1, None),  # an ordinary choice
        (1, 512, None),  # a long sequence fills a layer by itself
        (4, 24, None),
    ],
)
def test_severity_by_rows_and_samples(batch: int, rows_: int, told: str | None) -> None:
    assert severity(job(batch, rows_)) == told


def test_the_optimizer_costs_the_same_for_any_batch() -> None:
    assert severity(job(4, 512, optimizer=0.3)) is None
    assert severity(job(4, 512, optimizer=0.42)) == "warn"
    assert severity(job(4, 512, optimizer=0.42, micro_steps=4.0)) is None


def test_short_calls_cost_the_same_for_any_batch() -> None:
    """3,000 calls of 20 us a step, for 10 us of work together."""
    tiny = layer("act", 0.6, "ReLU", flops=None, parameters=0, output_shape=(2, 64), calls=3_000.0)
    assert severity(job(2, 1, layers=(tiny,))) == "warn"
    few = layer("act", 0.6, "ReLU", flops=None, parameters=0, output_shape=(2, 64), calls=100.0)
    assert severity(job(2, 1, layers=(few,))) is None


def test_waiting_for_gradients_is_no_cost_of_a_small_batch() -> None:
    """Nine tenths of the step are the backward pass of a layer whose forward is 0.01 of it."""
    known = facts(optimizers=(), distributed=DistributedFacts(backend="gloo", rank=0, world_size=2))
    waits = replace(linear("fc", 0.9, 1), self_forward_s=0.001, self_backward_s=0.089)
    assert severity(job(1, 1, layers=(waits,))) == "warn"
    assert severity(job(1, 1, layers=(waits,), facts=known)) is None


def test_a_recurrent_layer_uses_its_weights_for_the_batch_only() -> None:
    lstm = layer("rnn", 0.8, "LSTM", flops=None, output_shape=(1, 500, 256))
    assert severity(job(1, 1, layers=(lstm,))) == "warn"


def test_it_gives_back_three_quarters_at_most() -> None:
    found = small_batch.check(job(1, 1))
    assert isinstance(found, Finding)
    assert found.recoverable_s == pytest.approx(0.1 * (0.05 + 0.75 * 16 / 17) * 0.75, rel=0.02)


def test_without_memory_for_twice_the_batch_there_is_nothing_to_do() -> None:
    assert severity(job(1, 1, memory=4 * GIB)) == "warn"
    assert severity(job(1, 1, memory=int(1.9 * GIB))) is None
    assert isinstance(small_batch.check(job(1, 1, processes=processes(rss_bytes=None))), Abstain)


def test_requests_have_no_batch_to_choose() -> None:
    serving = job(1, 1, facts=facts(loader=None, optimizers=()))
    assert severity(replace(serving, mode="inference")) is None
    assert severity(replace(job(1, 1), mode="inference")) == "warn"


def test_batches_of_several_sizes_tell_it_themselves() -> None:
    """Steps of 8 take 0.1 s. Those of 4 take 0.09 s: 0.08 s are the same for any batch; or 0.06 s: then 0.02 s are."""
    for small_s, told in ((0.09, "info"), (0.06, None)):
        usual, small = rows(150), rows(30, step_s=small_s)
        steps = tuple(row._replace(samples=8.0) for row in usual) + tuple(row._replace(samples=4.0) for row in small)
        known = facts(loader=LoaderFacts(workers=0, batch_size=8))
        usual_rank = rank(steps=steps, micro_batch_size=8, batch_size=7.3, layers=(linear("fc", 0.7, 1),), facts=known)
        assert severity(seen(usual_rank)) == told


def test_what_a_fused_optimizer_cures_is_none_of_the_batch() -> None:
    adamw = OptimizerFacts(kind="AdamW", module="torch.optim.adamw", parameters=50, defaults={"fused": None})
    assert severity(job(4, 512, optimizer=0.6)) == "warn"
    assert severity(job(4, 512, optimizer=0.6, facts=facts(optimizers=(adamw,)))) is None
    assert severity(job(1, 1, optimizer=0.6, facts=facts(optimizers=(adamw,)))) == "warn"


@pytest.mark.parametrize(("passes", "told"), [(1.0, None), (3.0, None), (8.0, "warn")])
def test_an_agent_acts_on_one_row_and_learns_from_many(passes: float, told: str | None) -> None:
    """The first forward has one row; the loader hands out 64, for one backward pass or for some."""
    assert severity(job(1, 1, batch_size=64.0, micro_steps=passes)) == told


@pytest.mark.parametrize("type", ["LSTM", "TransformerEncoder"])
def test_places_of_a_sequence_may_come_first(type: str) -> None:
    """(12, 64, 256): twelve places of 64 sequences, or 64 of twelve. The loader says which, if there is one."""
    lstm = layer("rnn", 0.8, type, flops=None, output_shape=(12, 64, 256))
    unknown = tuple(row._replace(samples=None) for row in rows())
    known = facts(loader=None, optimizers=())
    alone = seen(rank(steps=unknown, micro_batch_size=12, batch_size=12.0, layers=(lstm,), facts=known))
    assert isinstance(small_batch.check(alone), Abstain)
    assert not isinstance(small_batch.check(job(12, 12, layers=(lstm,))), Abstain)


def test_what_was_not_seen_abstains() -> None:
    assert isinstance(small_batch.check(job(None, 1)), Abstain)
    assert isinstance(small_batch.check(job(1, 1, compiled=True)), Abstain)
    assert isinstance(small_batch.check(job(1, 1, phases=())), Abstain)


@pytest.mark.parametrize(("util", "rows_", "told"), [(0.9, 4, "warn"), (0.9, 512, "info"), (0.5, 4, None)])
def test_on_a_gpu_by_the_flops_that_it_reaches(util: float, rows_: int, told: str | None) -> None:
    """An H100 uses each weight in bfloat16 for 295 rows in the time that it fetches it."""
    seen_on_gpu = on_gpu(
        device(util=util, memory_used_bytes=10 * GIB),
        layers=tuple(replace(linear(f"fc{at}", 0.25, rows_), dtype="bfloat16") for at in range(3)),
        micro_batch_size=4,
        batch_size=4.0,
        facts=facts(devices=("cuda",), dtypes=("bfloat16",), cuda=True, loader=None),
        allocator=(Allocator(t=1.0, allocated_bytes=GIB, reserved_bytes=GIB, peak_bytes=2 * GIB),),
    )
    assert severity(seen_on_gpu) == told
