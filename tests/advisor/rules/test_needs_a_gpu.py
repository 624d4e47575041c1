"""Rules about a GPU say nothing of a job that computes on the CPU, and nothing bad of a healthy one on a GPU."""

from __future__ import annotations

from typing import Any

import pytest

from tests.advisor import published
from tests.advisor.windows import device, facts, on_gpu, phases, rank, rows, seen, two_ranks
from torchtop.advisor.engine import judge
from torchtop.advisor.judgement import Rule
from torchtop.advisor.rules import (
    data_parallel,
    ecc_errors,
    energy_inefficient,
    fp32_matmul,
    fragmentation,
    gpu_shared,
    host_sync,
    idle_device,
    launch_bound,
    misaligned_dims,
    misleading_utilization,
    no_autocast,
    not_compiled,
    pcie_degraded,
    power_capped,
    thermal_throttled,
    transfer_bound,
    unpinned_memory,
)
from torchtop.seen import Seen

RULES: tuple[Rule, ...] = (
    transfer_bound,
    unpinned_memory,
    host_sync,
    launch_bound,
    idle_device,
    misleading_utilization,
    fp32_matmul,
    no_autocast,
    misaligned_dims,
    fragmentation,
    not_compiled,
    data_parallel,
    thermal_throttled,
    power_capped,
    pcie_degraded,
    ecc_errors,
    gpu_shared,
    energy_inefficient,
)

ON_THE_CPU = {
    "healthy": seen(),
    "a machine with a GPU that somebody else uses": seen(devices=(device(util=0.0),), devices_reason=None),
    "a hot, shared and broken GPU of somebody else": seen(
        devices=(device(util=1.0, ecc_uncorrected=3, throttle_reasons=("hw-thermal-slowdown",), sm_clock_mhz=500),),
        devices_reason=None,
    ),
    "waiting for data": seen(rank(steps=rows(data=0.9), phases=phases(data=0.9, forward=0.0, backward=0.0))),
    "wrapped": seen(rank(facts=facts(roots=("DataParallel",)))),
    "two ranks": two_ranks(),
    "nothing": seen(rank(steps=rows(1)[:1], phases=(), layers=())),
}


@pytest.mark.parametrize("name", ON_THE_CPU)
def test_nothing_of_a_job_on_the_cpu(name: str) -> None:
    verdict = judge(ON_THE_CPU[name], RULES)
    assert verdict.findings == ()
    assert {one.reason for one in verdict.abstained} == {"the job computes on the CPU"}
    assert len(verdict.abstained) == len(RULES)


HEALTHY = {
    "by hand": on_gpu(),
    "seen as today": published.job(device()),
    "h100 in a large training step": published.job(published.device("h100 in a large training step")),
    "a100 in a healthy pretraining": published.job(published.device("a100 in a healthy pretraining")),
    "GPT-2, tuned": published.job(
        published.device("a100 at its full clock"),
        steps=published.steps(published.GPT2_STEP_S["padded"]),
        layers=published.gpt2("bfloat16", 50304),
        facts=published.on_cuda(autocast="bfloat16", compiled_frames=13),
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_no_warning_of_a_healthy_job(name: str) -> None:
    assert [one for one in judge(HEALTHY[name], RULES).findings if one.severity != "info"] == []


def _awkward() -> dict[str, Seen]:
    blind: dict[str, Any] = {field: None for field in device().readings[0].__struct_fields__ if field not in _KEYS}
    return {
        "no reading of anything": published.job(device(**blind)),
        "one reading": published.job(device(1)),
        "one step": published.job(device(), steps=rows(1)),
        "steps of ten minutes": published.job(device(), steps=rows(3, step_s=600.0)),
        "no steps": published.job(device(), steps=rows(1)[:0] or None, phases=(), layers=()),
        "a clock that jumped": published.job(device(), steps=rows(60, end=-5_000.0)),
        "nothing to divide by": published.job(
            device(power_limit_w=0.0, sm_clock_max_mhz=0, memory_total_bytes=0, pcie_width_max=0)
        ),
        "a device that was lost": published.job(device(**blind, missing={"device": "GPU is lost"})),
        "layers without anything": published.job(
            device(), layers=(published.linear("x", 1, 1, calls=0.0, output_shape=(0,), flops=0.0, dtype=None),)
        ),
    }


_KEYS = ("t", "index", "mig_index", "missing")


@pytest.mark.parametrize("name", _awkward())
def test_awkward_windows_break_no_rule(name: str) -> None:
    verdict = judge(_awkward()[name], RULES)
    assert [one for one in verdict.abstained if "bug" in one.reason] == []
    assert all(finding.evidence for finding in verdict.findings)
