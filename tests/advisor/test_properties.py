"""Whatever a window holds, every rule answers: no exception, no number that is none, no finding without evidence."""

from __future__ import annotations

import math
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.advisor.windows import (
    NOW,
    PID,
    device,
    facts,
    gpu,
    host,
    layer,
    on_gpu,
    phases,
    process,
    rank,
    rows,
    seen,
    two_ranks,
)
from torchtop.advisor.engine import judge
from torchtop.advisor.registry import RULES
from torchtop.advisor.suppression import EXPLAINS
from torchtop.record import GpuSample, Neighbour, StepRow
from torchtop.seen import (
    Allocator,
    DeviceSeen,
    DistributedFacts,
    Facts,
    GcPause,
    LoaderFacts,
    OptimizerFacts,
    Phase,
    RankSeen,
    Save,
    Seen,
    StackCount,
    Stacks,
    WeightRow,
    Weights,
    ZeroGrad,
)
from torchtop.snapshot import Frame, Layer
from torchtop.step_statistics import plain_rows

# Steps of 10 us and of 10 minutes, and clocks that were set: intervals may be zero, ends may go back.
SECONDS = st.sampled_from((0.0, 1e-5, 1e-3, 0.05, 0.1, 0.11, 2.0, 600.0))
MAYBE_S = st.none() | SECONDS
COUNT = st.integers(0, 9)
SHARE = st.none() | st.sampled_from((0.0, 0.01, 0.3, 0.97, 1.0))
BYTES = st.none() | st.sampled_from((0, 1, 10**6, 2**30, 2**36, 2**40))
RATE = st.none() | st.sampled_from((0.0, 0.5, 300.0, 5e6, 3e9))
MOMENT = st.sampled_from((NOW - 1e6, NOW - 30.0, NOW - 19.0, NOW - 5.0, NOW - 4.9, NOW, NOW + 10.0))
FRAMES = st.none() | st.sampled_from(
    [
        Frame(function=function, file=file, line=line)
        for function, file, line in (
            ("main", "/job/train.py", 3),
            ("<lambda>", "<string>", 0),
            ("_call_impl", "/x/site-packages/torch/nn/modules/module.py", 1780),
            ("fetch", "/x/site-packages/torch/utils/data/_utils/fetch.py", 54),
            ("", "", -1),
        )
    ]
)


@st.composite
def steps(draw: st.DrawFn) -> tuple[StepRow, ...]:
    """None, one, or many; sound ones, or a few odd kinds that come again and again."""
    if draw(st.booleans()):
        return rows(
            draw(st.sampled_from((1, 30, 200))),
            draw(st.sampled_from((0.001, 0.1, 600.0))),
            draw(st.sampled_from((0.0, 0.02, 1.9))),
            data=draw(st.sampled_from((0.0, 0.2, 0.5))),
            backward=draw(st.sampled_from((0.0, 0.2, 0.5))),
            optimizer=draw(st.sampled_from((0.0, 0.2, 0.5))),
        )
    kinds = draw(
        st.lists(
            st.builds(
                StepRow,
                t_end=st.just(0.0),
                step_s=SECONDS,
                flags=st.sampled_from((0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 127)),
                micro_steps=st.integers(0, 5),
                samples=st.none() | st.sampled_from((0.0, 1.0, 32.0, 1e9)),
                data_s=MAYBE_S,
                backward_s=MAYBE_S,
                optimizer_s=MAYBE_S,
                backward_wait_s=MAYBE_S,
            ),
            max_size=6,
        )
    )
    times = draw(st.sampled_from((1, 1, 12, 70)))
    t = NOW - draw(SECONDS)
    found = []
    for row in kinds * times:
        t += draw(st.sampled_from((row.step_s, row.step_s, -5.0))) if times == 1 else row.step_s
        found.append(row._replace(t_end=t))
    return tuple(found)


PHASES = st.lists(
    st.builds(
        Phase,
        step_s=SECONDS,
        data=MAYBE_S,
        transfer=MAYBE_S,
        forward=MAYBE_S,
        backward=MAYBE_S,
        optimizer=MAYBE_S,
        communication=MAYBE_S,
        other=SECONDS,
    ),
    max_size=5,
).map(tuple)


@st.composite
def layers(draw: st.DrawFn) -> tuple[Layer, ...]:
    """Layers that come and go, without times, without formula, of odd shapes."""
    count = draw(st.integers(0, 4))
    return tuple(
        replace(
            layer(draw(st.sampled_from(("", "a", "blocks.0.fc", "blocks.1.fc"))), 0.1),
            type=draw(st.sampled_from(("Linear", "Conv2d", "Embedding", "GPT"))),
            calls=draw(st.sampled_from((0.0, 0.5, 1.0, 1e4))),
            share=draw(SHARE),
            forward_s=draw(MAYBE_S),
            backward_s=draw(MAYBE_S),
            self_forward_s=draw(MAYBE_S),
            self_backward_s=draw(MAYBE_S),
            parameters=draw(st.sampled_from((0, 7, 10**9))),
            parameter_bytes=draw(st.sampled_from((0, 28, 4 * 10**9))),
            activation_bytes=draw(BYTES),
            output_shape=draw(st.sampled_from((None, (), (0,), (32, 7), (32, 128, 512)))),
            flops=draw(st.none() | st.sampled_from((0.0, 1.0, 1e12))),
            dtype=draw(st.sampled_from((None, "float32", "bfloat16", "int64"))),
        )
        for _ in range(count)
    )


@st.composite
def processes(draw: st.DrawFn, pid: int) -> tuple[Any, ...]:
    """Readings of one process, some of them missing."""
    changes: dict[str, Any] = {
        "state": draw(st.sampled_from("RSDTtZ")),
        "cpu_share": draw(st.none() | st.sampled_from((0.0, 0.4, 1.0, 64.0))),
        "rss_bytes": draw(BYTES),
        "private_bytes": draw(BYTES),
        "threads": draw(st.none() | st.integers(0, 300)),
        "read_bytes_per_s": draw(RATE),
        "involuntary_switches_per_s": draw(RATE),
        "cgroup_memory_limit_bytes": draw(BYTES),
        "cgroup_memory_bytes": draw(BYTES),
        "run_delay_share": draw(SHARE),
        "major_faults_per_s": draw(RATE),
    }
    growth = draw(st.sampled_from((0, 0, 10**7)))
    step = draw(st.sampled_from((1.0, 0.0, 60.0)))
    rss = changes["rss_bytes"]
    return tuple(
        process(NOW - 30 + at * step, pid, PID, **{**changes, "rss_bytes": rss and rss + growth * at})
        for at in range(draw(st.sampled_from((0, 1, 3, 30))))
    )


@st.composite
def settings_of(draw: st.DrawFn) -> Facts:
    """What a probe may tell, or nothing."""
    if draw(st.booleans()):
        return Facts()
    loader = st.none() | st.builds(
        LoaderFacts,
        workers=st.sampled_from((0, 1, 2, 64)),
        pin_memory=st.booleans(),
        persistent_workers=st.booleans(),
        prefetch_factor=st.none() | st.integers(0, 4),
        dataset=st.none() | st.just("Pages"),
        batch_size=st.none() | st.sampled_from((0, 1, 32)),
        dataset_at=FRAMES,
    )
    optimizer = st.builds(
        OptimizerFacts,
        kind=st.sampled_from(("AdamW", "SGD", "Lion")),
        module=st.none() | st.just("torch.optim.adamw"),
        parameters=st.integers(0, 100),
        elements=st.none() | st.integers(0, 10**9),
        fused=st.none() | st.booleans(),
        foreach=st.none() | st.booleans(),
    )
    return facts(
        threads=draw(st.none() | st.sampled_from((0, 1, 8, 256))),
        devices=draw(st.sampled_from(((), ("cpu",), ("cuda",), ("cpu", "cuda"), ("mps",)))),
        dtypes=draw(st.sampled_from(((), ("float32",), ("bfloat16", "float32")))),
        loader=draw(loader),
        optimizers=tuple(draw(st.lists(optimizer, max_size=2))),
        distributed=draw(
            st.none() | st.just(DistributedFacts(backend="gloo", rank=0, world_size=2)),
        ),
        compiled_frames=draw(st.integers(0, 50)),
        grads_kept=draw(st.none() | st.booleans()),
        synced_passes=draw(st.none() | st.sampled_from((0.0, 1.0, 4.0))),
        tf32_matmul=draw(st.none() | st.booleans()),
        autocast=draw(st.sampled_from((None, "bfloat16"))),
        cuda=draw(st.none() | st.booleans()),
    )


STACKS = st.lists(
    st.builds(
        Stacks,
        pid=st.sampled_from((PID, 5001)),
        samples=st.integers(0, 100),
        rate_hz=st.just(20.0),
        counts=st.lists(
            st.builds(
                StackCount,
                frames=st.lists(FRAMES.filter(bool), max_size=4).map(tuple),
                count=st.integers(0, 60),
            ),
            max_size=3,
        ).map(tuple),
    ),
    max_size=2,
).map(tuple)

PAUSES = st.lists(
    st.builds(GcPause, t=MOMENT, seconds=SECONDS, generation=st.integers(0, 2), at=FRAMES, explicit=st.booleans()),
    max_size=6,
).map(lambda found: tuple(sorted(found, key=lambda one: one.t)))

SAVES = st.lists(st.builds(Save, t=MOMENT, seconds=SECONDS, function=st.just("torch.save"), at=FRAMES), max_size=4).map(
    lambda found: tuple(sorted(found, key=lambda one: one.t))
)

WEIGHTS = st.none() | st.builds(
    Weights,
    t=MOMENT,
    boundaries=st.sampled_from((0, 1, 100)),
    rows=st.lists(
        st.builds(
            WeightRow,
            module=st.sampled_from(("", "a", "blocks.0.fc")),
            type=st.sampled_from(("Linear", "Conv2d", "Embedding")),
            name=st.sampled_from(("weight", "bias")),
            elements=st.sampled_from((0, 7, 10**8)),
            bytes=st.sampled_from((0, 28, 4 * 10**8)),
            trainable=st.booleans(),
            had_gradient=st.none() | st.booleans(),
            channels=st.sampled_from((None, 0, 64)),
            channels_near_zero=st.sampled_from((None, 0, 64)),
            elements_near_zero=st.sampled_from((None, 0, 7)),
            norm=st.sampled_from((None, 0.0, 1e30)),
        ),
        max_size=3,
    ).map(tuple),
)

ALLOCATOR = st.lists(
    st.builds(
        Allocator,
        t=MOMENT,
        allocated_bytes=st.sampled_from((0, 2**30, 79 * 2**30)),
        reserved_bytes=st.sampled_from((0, 2**30, 80 * 2**30)),
        peak_bytes=st.sampled_from((0, 2**30, 80 * 2**30)),
        retries=st.integers(0, 3),
    ),
    max_size=20,
).map(lambda found: tuple(sorted(found, key=lambda one: one.t)))


@st.composite
def ranks(draw: st.DrawFn, number: int) -> RankSeen:
    """A healthy rank, of which some things are as awkward as may be."""
    odd: dict[str, st.SearchStrategy[Any]] = {
        "rank": st.none(),
        "phases": PHASES | st.sampled_from((phases(forward=0.05), phases(forward=0.1, optimizer=0.5))),
        "phases_are": st.sampled_from(("cpu", "device", "host", None)),
        "layers": layers(),
        "batch_size": st.none() | st.sampled_from((0.0, 1.0, 32.0)),
        "micro_batch_size": st.none() | st.sampled_from((0, 1, 32)),
        "micro_steps": st.none() | st.sampled_from((0.0, 1.0, 3.5)),
        "loss": st.none(),
        "loss_finite": st.none() | st.booleans(),
        "compiled": st.booleans(),
        "facts": settings_of(),
        "parameters_bytes": BYTES,
        "gradients_bytes": BYTES,
        "optimizer_bytes": BYTES,
        "allocator": ALLOCATOR,
        "processes": processes(PID + number),
        "workers": st.fixed_dictionaries({}, optional={5001: processes(5001), 5002: processes(5002)}).map(
            lambda found: {pid: rows for pid, rows in found.items() if rows}
        ),
        "gc_pauses": PAUSES,
        "gc_seconds": MAYBE_S,
        "saves": SAVES,
        "zero_grad": st.none() | st.builds(ZeroGrad, calls=COUNT, seconds=SECONDS, kept=COUNT, at=FRAMES),
        "stacks": STACKS,
        "weights": WEIGHTS,
        "watched_s": st.sampled_from((0.0, 1.0, 20.0)),
    }
    chosen = {name: draw(odd[name]) for name in draw(st.lists(st.sampled_from(sorted(odd)), max_size=12, unique=True))}
    given_rows = draw(steps())
    plain, excluded = plain_rows(given_rows)
    return replace(rank(number), steps=given_rows, plain=plain, excluded=excluded, **chosen)


def _readings(draw: st.DrawFn) -> tuple[GpuSample, ...]:
    return tuple(
        gpu(
            NOW - at,
            util=draw(SHARE),
            power_w=draw(RATE),
            power_limit_w=draw(RATE),
            temperature_c=draw(RATE),
            memory_used_bytes=draw(BYTES),
            memory_total_bytes=draw(BYTES),
            sm_clock_mhz=draw(st.none() | st.just(0)),
            throttle_reasons=draw(st.sampled_from((None, (), ("sw_power_cap", "hw_thermal_slowdown")))),
            processes=draw(st.sampled_from((None, ()))),
            pcie_generation=draw(st.none() | st.integers(0, 5)),
            ecc_uncorrected=draw(st.none() | st.integers(0, 5)),
        )
        for at in range(draw(st.integers(1, 5)))
    )


@st.composite
def windows(draw: st.DrawFn) -> Seen:
    """A job of no rank, of one, of several, with whatever could be read."""
    count = draw(st.integers(0, 3))
    job = seen(
        *(draw(ranks(number)) for number in range(count)),
        world_size=draw(st.none() | st.integers(1, 64)),
        mode=draw(st.sampled_from(("training", "inference", "idle", None))),
        neighbours=draw(st.sampled_from((None, (), (Neighbour(t=NOW, pid=9, name="stress", cores=3.0),)))),
        usable_cores=draw(st.sampled_from((None, 0.0, 0.5, 2.0, 64.0))),
        host=tuple(
            host(
                NOW - at,
                cpu_util=draw(SHARE),
                memory_bytes=draw(BYTES),
                memory_available_bytes=draw(BYTES),
                memory_pressure=draw(SHARE),
                io_pressure=draw(SHARE),
                swap_in_bytes_per_s=draw(RATE),
            )
            for at in range(draw(st.sampled_from((0, 1, 4))))
        ),
        devices=draw(
            st.just(())
            | st.just((device(),))
            | st.builds(lambda rows: (DeviceSeen(readings=rows),), st.composite(_readings)())
        ),
    )
    changes: dict[str, Any] = {"slowest": draw(st.integers(0, max(count - 1, 0)))}
    if count == 0:
        changes["ranks"] = ()
    return replace(job, **changes)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(windows())
def test_every_rule_answers_with_numbers(window: Seen) -> None:
    verdict = judge(window)
    for abstained in verdict.abstained:
        assert not abstained.reason.startswith("a bug in torchtop"), abstained
        assert abstained.reason != "its numbers are not finite", abstained
    for finding in verdict.findings:
        assert finding.evidence, finding
        for one in finding.evidence:
            assert all(value is None or math.isfinite(value) for value in (one.value, one.low, one.high)), finding
        assert finding.share is None or 0.0 <= finding.share <= 1.0, finding
        assert finding.recoverable_s is None or finding.recoverable_s >= 0.0, finding
        if finding.recoverable_s is not None and window.step_s is not None:
            assert finding.recoverable_s <= window.step_s, finding
        assert msgspec.json.encode(finding)
    codes = [one.code for one in verdict.findings] + [one.code for one in verdict.abstained]
    assert len(codes) == len(set(codes))
    assert judge(window) == verdict


def test_a_healthy_job_of_each_kind_is_told_nothing_bad() -> None:
    for job in (seen(), on_gpu(), two_ranks()):
        assert [one for one in judge(job).findings if one.severity != "info"] == []


def test_what_is_told_names_rules_that_there_are() -> None:
    codes = {rule.CODE for rule in RULES}
    assert {cause for cause in EXPLAINS} | {code for codes_ in EXPLAINS.values() for code in codes_} <= codes
