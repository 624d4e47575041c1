"""Layers of one rank, averaged over its armed steps. Pure function."""

from __future__ import annotations

from statistics import fmean

from torchtop.snapshot import Layer
from torchtop.timeline import ArmedStep
from torchtop.window import RankWindow

LIMIT = 5_000  # rows of one snapshot; the rest is counted in layers_left_out


def layers(window: RankWindow, rank: int | None, limit: int = LIMIT) -> tuple[list[Layer], int]:
    """(rows in the order of named_modules(), how many were left out) of the modules called in armed steps."""
    steps = list(window.armed)
    if not steps:
        return [], 0
    step_s = fmean(step.step_s for step in steps)
    named = called_modules(window)
    rows = [_layer(window, rank, name, indices, steps, step_s) for name, indices in named.items()]
    return rows[:limit], max(len(rows) - limit, 0)


def called_modules(window: RankWindow) -> dict[str, list[int]]:
    """Shown name -> modules called in armed steps, in the order of named_modules().

    One entry a name: a module that the loop makes anew in every step (a loss, mostly) is one to its user.
    """
    named: dict[str, list[int]] = {}
    called = sorted({index for step in window.armed for index in step.modules})
    roots = window.tree.trained_roots(called)
    for index in called:
        name = window.tree.shown_name(index, roots)
        if name is not None:
            named.setdefault(name, []).append(index)
    return named


def _layer(
    window: RankWindow, rank: int | None, name: str, indices: list[int], steps: list[ArmedStep], step_s: float
) -> Layer:
    times = [step.modules[index] for step in steps for index in indices if index in step.modules]
    index = indices[-1]
    module = window.tree.modules[index]
    calls = sum(t.calls for t in times) / len(steps)
    forward = sum(t.self_forward_s for t in times) / len(steps)
    shape, dtype, elements, stored = window.shapes.get(index, (None, None, None, None))
    flops = module.flops_per_output
    if window.on_cuda:
        # When the host queued its kernels is not how long a layer took: no number is better than that one.
        times, step_s = [], 0.0
    return Layer(
        rank=rank,
        name=name,
        type=module.type,
        calls=calls,
        forward_s=sum(t.forward_s for t in times) / len(steps) if times and calls else None,
        backward_s=_sum_known([t.backward_s for t in times], len(steps)),
        self_forward_s=forward if times and calls else None,
        self_backward_s=_sum_known([t.self_backward_s for t in times], len(steps)),
        recompute_s=_sum_known([t.recompute_s for t in times], len(steps)),
        share=sum(t.self_forward_s + (t.self_backward_s or 0.0) for t in times) / len(steps) / step_s
        if step_s
        else None,
        parameters=module.parameters,
        parameter_bytes=module.parameter_bytes,
        activation_bytes=stored or None,
        output_shape=shape,
        flops=float(flops * elements) if flops and elements else None,
        dtype=dtype,
        called_at=window.sites.of(index),
    )


def _sum_known(values: list[float | None], steps: int) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / steps if known else None
