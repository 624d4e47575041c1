"""Edges of host-stall, the line it must name, and what is no stall."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.advisor.windows import NOW, PID, WINDOW_S, facts, healthy_layers, phases, rank, rows, seen, two_ranks
from torchtop.advisor.engine import judge
from torchtop.advisor.rules import host_stall
from torchtop.record import StepRow
from torchtop.seen import GcPause, Seen, StackCount, Stacks, ZeroGrad
from torchtop.snapshot import Finding, Frame

TORCH = "/x/lib/python3.11/site-packages/torch"
LOOP = Frame(function="main", file="/job/train.py", line=40)
LOG = Frame(function="log", file="/job/report.py", line=12)
DUMP = Frame(function="encode", file="/x/lib/python3.11/json/encoder.py", line=200)
CALL = Frame(function="_call_impl", file=f"{TORCH}/nn/modules/module.py", line=1780)


def burst(*stacks: tuple[tuple[Frame, ...], int]) -> Stacks:
    counts = tuple(StackCount(frames=frames, count=count) for frames, count in stacks)
    return Stacks(pid=PID, samples=sum(count for _, count in stacks), rate_hz=20.0, counts=counts)


BURST = burst(((CALL, LOOP), 60), ((DUMP, LOG, LOOP), 20))


def stalled(other: float, step_s: float = 0.1, **changes: Any) -> Seen:
    """A job of which `other` of each step is in no phase."""
    changes = {"stacks": (BURST,), "phases": phases(step_s=step_s, forward=0.345 - other), **changes}
    return seen(rank(**changes))


@pytest.mark.parametrize(
    ("other", "severity"), [(0.02, None), (0.09, None), (0.12, "warn"), (0.19, "warn"), (0.25, "critical")]
)
def test_severity_by_the_share_in_no_phase(other: float, severity: str | None) -> None:
    found = host_stall.check(stalled(other))
    assert (found.severity if isinstance(found, Finding) else None) == severity


def test_it_names_the_line() -> None:
    found = host_stall.check(stalled(0.25))
    assert isinstance(found, Finding)
    assert (found.where["file"], found.where["line"], found.where["function"]) == ("/job/report.py", 12, "log")
    assert "at report.py:12 (log)" in found.summary
    assert found.recoverable_s == pytest.approx(0.025, rel=0.05)


@pytest.mark.parametrize("reason", [None, "py-spy may not read it"])
def test_without_stacks_it_says_so_and_warns_nobody(reason: str | None) -> None:
    found = host_stall.check(stalled(0.25, stacks=(), stacks_reason=reason))
    assert isinstance(found, Finding)
    assert (found.severity, found.confidence) == ("info", "low")
    assert found.where["line_missing"] == (reason or "no stacks were taken yet")


@pytest.mark.parametrize(("step_s", "fires"), [(0.003, False), (0.0048, True)])
def test_the_overhead_of_a_loop_is_no_stall(step_s: float, fires: bool) -> None:
    assert isinstance(host_stall.check(stalled(0.25, step_s)), Finding) == fires


@pytest.mark.parametrize(("step_s", "fires"), [(0.010, False), (0.014, True)])
def test_a_frameworks_own_overhead_is_no_stall(step_s: float, fires: bool) -> None:
    trainer = Frame(function="_loop", file="/x/lib/python3.11/site-packages/transformers/trainer.py", line=2500)
    report = Frame(function="log", file="/x/lib/python3.11/site-packages/transformers/trainer.py", line=3000)
    stacks = burst(((CALL, trainer, LOOP), 60), ((report, trainer, LOOP), 20))
    assert isinstance(host_stall.check(stalled(0.25, step_s, stacks=(stacks,))), Finding) == fires


def test_clipping_of_gradients_is_training() -> None:
    clip = Frame(function="clip_grad_norm_", file=f"{TORCH}/nn/utils/clip_grad.py", line=220)
    stacks = burst(((CALL, LOOP), 60), ((clip, LOOP), 20))
    assert host_stall.check(stalled(0.25, stacks=(stacks,))) is None


@pytest.mark.parametrize(
    ("file", "function", "trains"),
    [
        ("/job/ema.py", "update_ema", True),
        ("/job/train.py", "ModelEmaV2.update", True),
        ("/job/train.py", "EMA.step", True),
        ("/job/sac.py", "Agent.soft_update", True),
        ("/x/lib/python3.10/site-packages/timm/utils/model_ema.py", "update", True),
        ("/x/lib/python3.11/site-packages/gymnasium/wrappers/common.py", "OrderEnforcing.step", True),
        ("/job/gym/train.py", "log", False),
        ("/job/train.py", "Schema.remap", False),
        ("/job/train.py", "write_email", False),
        ("/job/train.py", "REMAP.update", False),
    ],
)
@pytest.mark.parametrize("rare", [False, True])
def test_averages_of_weights_and_environments_are_training(file: str, function: str, trains: bool, rare: bool) -> None:
    stacks = burst(((CALL, LOOP), 60), ((Frame(function=function, file=file, line=9), LOOP), 30))
    changes: dict[str, Any] = {"steps": now_and_then(10, 0.3)} if rare else {}
    found = host_stall.check(stalled(0.02 if rare else 0.25, stacks=(stacks,), **changes))
    assert (found is None) if trains else isinstance(found, Finding)


@pytest.mark.parametrize(
    ("calls", "loader", "severity"), [(1, False, "critical"), (6, False, "info"), (6, True, "critical")]
)
def test_a_job_that_acts_is_not_warned_of_its_world(calls: int, loader: bool, severity: str) -> None:
    """Reinforcement learning in the user's own environment: a model is called more often than backward is."""
    changes: dict[str, Any] = {} if loader else {"steps": tuple(row._replace(data_s=None) for row in rows())}
    layers = tuple(replace(one, calls=float(calls)) for one in healthy_layers())
    found = host_stall.check(stalled(0.25, layers=layers, **changes))
    assert isinstance(found, Finding)
    assert found.severity == severity


def test_a_rare_stall_that_stacks_contradict_makes_it_abstain() -> None:
    """A validation pass without model.eval(): the long steps are forward passes, and the line is something else's."""
    stacks = burst(((CALL, LOOP), 190), ((DUMP, LOG, LOOP), 10))
    verdict = judge(stalled(0.02, steps=now_and_then(10, 0.5), stacks=(stacks,)), [host_stall])
    assert "10 of 200 samples" in verdict.abstained[0].reason


@pytest.mark.parametrize(
    "known",
    [
        {"zero_grad": ZeroGrad(calls=180, seconds=0.2 * WINDOW_S, kept=0)},
        {"gc_seconds": 0.2 * WINDOW_S},
        {"phases": tuple(replace(one, saving=0.2 * one.step_s) for one in phases(forward=0.095))},
    ],
)
def test_what_has_a_name_of_its_own_is_no_stall(known: dict[str, Any]) -> None:
    assert isinstance(host_stall.check(stalled(0.25)), Finding)
    assert host_stall.check(stalled(0.25, **known)) is None


def now_and_then(every: int, extra_s: float, backward_too: bool = False) -> tuple[StepRow, ...]:
    return tuple(
        row._replace(
            step_s=row.step_s + (extra_s if at % every == 0 else 0.0),
            backward_s=row.backward_s * 2 if backward_too and at % every == 0 and row.backward_s else row.backward_s,
        )
        for at, row in enumerate(rows(160))
    )


@pytest.mark.parametrize(("extra_s", "severity"), [(0.0, None), (0.1, None), (0.2, "warn"), (0.5, "critical")])
def test_a_stall_every_tenth_step(extra_s: float, severity: str | None) -> None:
    """Armed steps miss it: they are others."""
    found = host_stall.check(stalled(0.02, steps=now_and_then(10, extra_s)))
    assert (found.severity if isinstance(found, Finding) else None) == severity
    if isinstance(found, Finding):
        assert "of the time, every 1 s," in found.summary
        assert found.where["line"] == 12


def test_steps_with_more_to_do_are_no_stall() -> None:
    assert host_stall.check(stalled(0.02, steps=now_and_then(5, 0.09, backward_too=True))) is None


def test_a_collection_in_those_steps_is_none() -> None:
    steps = now_and_then(10, 0.5)
    pauses = tuple(
        GcPause(t=row.t_end - 0.01, seconds=0.5, generation=2, at=None) for at, row in enumerate(steps) if at % 10 == 0
    )
    assert host_stall.check(stalled(0.02, steps=steps, gc_pauses=pauses)) is None


def test_a_phase_that_was_not_seen_is_no_stall() -> None:
    blind = tuple(replace(one, forward=None, other=0.4 * one.step_s) for one in phases())
    verdict = judge(seen(rank(phases=blind)), [host_stall])
    assert "no forward was seen" in verdict.abstained[0].reason


def test_stacks_that_contradict_make_it_abstain() -> None:
    verdict = judge(stalled(0.25, stacks=(burst(((CALL, LOOP), 80)),)), [host_stall])
    assert "0 of 80 samples" in verdict.abstained[0].reason


def test_a_rank_that_stalls_is_found_though_another_is_the_slowest() -> None:
    found = host_stall.check(two_ranks({}, {"phases": phases(forward=0.05), "pid": PID + 1}))
    assert isinstance(found, Finding)
    assert found.where["rank"] == 1


def test_inference_is_not_judged() -> None:
    verdict = judge(seen(rank(phases=phases(forward=0.05)), mode="inference"), [host_stall])
    assert verdict.abstained[0].reason == "the job does not train"


def test_item_on_a_busy_gpu_is_no_stall() -> None:
    """gpu-idle 0.1.0: the host waits in .item() while the device computes."""
    job = seen(rank(phases=phases(forward=0.05), phases_are="host", facts=facts(devices=("cuda",)), compiled=True))
    verdict = judge(job, [host_stall])
    assert "waits for the device" in verdict.abstained[0].reason


@pytest.mark.parametrize(
    ("every_s", "extra_s", "severity"), [(5.0, 0.8, "warn"), (4.0, 0.6, "warn"), (6.0, 2.0, "critical")]
)
def test_a_stall_of_a_few_times(every_s: float, extra_s: float, severity: str) -> None:
    """Three to six times in the window: batches of steps would say only which of them it fell into."""
    every = int((every_s - extra_s) / 0.03)
    steps = tuple(
        row._replace(step_s=row.step_s + (extra_s if at % every == every - 1 else 0.0))
        for at, row in enumerate(rows(4 * every, step_s=0.03))
    )
    t = NOW - sum(row.step_s for row in steps)
    ended = []
    for row in steps:
        t += row.step_s
        ended.append(row._replace(t_end=t))
    found = host_stall.check(stalled(0.02, 0.03, steps=tuple(ended)))
    assert isinstance(found, Finding)
    assert found.severity == severity
    assert found.share == pytest.approx(extra_s / every_s, rel=0.1)


def test_a_burst_between_two_of_them_contradicts_nothing() -> None:
    steps = now_and_then(40, 3.0)
    missed = burst(((CALL, LOOP), 60))
    found = host_stall.check(stalled(0.02, steps=steps, stacks=(missed,)))
    assert isinstance(found, Finding)
    assert (found.severity, found.where["line_missing"]) == (
        "info",
        "0 samples of the stack were in no phase, 5 are needed",
    )


STEP = Frame(function="main", file="/job/train.py", line=38)
SCORE = Frame(function="main", file="/job/train.py", line=41)
BACKWARD = Frame(function="main", file="/job/train.py", line=44)
RUN = Frame(function="backward", file=f"{TORCH}/_tensor.py", line=600)
F1 = Frame(function="f1_score", file="/x/lib/python3.11/site-packages/sklearn/metrics/_classification.py", line=9)
CROSS = Frame(function="cross_entropy", file=f"{TORCH}/nn/functional.py", line=3400)


def scored(*inner: Frame, forward: float = 0.32, root_s: float = 0.012, stacks: bool = True) -> Seen:
    """A job that does something after its model's forward pass, which takes `root_s` of a step of 0.1 s."""
    layers = tuple(replace(one, forward_s=root_s) if not one.name else one for one in healthy_layers())
    counts = (((CALL, STEP), 20), ((*inner, SCORE), 20), ((RUN, BACKWARD), 60))
    return seen(rank(phases=phases(forward=forward), layers=layers, stacks=(burst(*counts),) if stacks else ()))


def test_metrics_between_forward_and_backward_are_told_from_the_loss() -> None:
    found = host_stall.check(scored(F1))
    assert isinstance(found, Finding)
    assert (found.severity, found.where["line"]) == ("warn", 41)
    assert "between forward and backward" in found.evidence[0].name
    assert host_stall.check(scored(CROSS)) is None, "a loss that is a function of torch"
    assert host_stall.check(scored()) is None, "a loss that is written out"
    assert host_stall.check(scored(F1, root_s=0.028)) is None, "the model itself takes all of it"


@pytest.mark.parametrize(
    ("function", "told"), [("Meter.log_metrics", True), ("accuracy", True), ("focal_loss", False), ("log_prob", False)]
)
def test_functions_that_report_are_no_loss_by_their_name(function: str, told: bool) -> None:
    """Python of the user's own: by the file alone it may be a loss."""
    found = host_stall.check(scored(Frame(function=function, file="/job/train.py", line=70)))
    assert isinstance(found, Finding) is told
    if isinstance(found, Finding):
        assert found.where["function"] == function


def test_a_training_function_that_is_called_so_is_no_report() -> None:
    inside = scored()
    stacks = replace(
        inside.ranks[0].stacks[0],
        counts=tuple(
            replace(
                one,
                frames=tuple(
                    replace(f, function="train_and_report") if f.function == "main" else f for f in one.frames
                ),
            )
            for one in inside.ranks[0].stacks[0].counts
        ),
    )
    assert host_stall.check(seen(replace(inside.ranks[0], stacks=(stacks,)))) is None


def test_without_stacks_nobody_knows_what_lies_between() -> None:
    verdict = judge(scored(F1, stacks=False), [host_stall])
    assert verdict.abstained[0].reason == "no stacks were taken yet"
