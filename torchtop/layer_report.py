"""Layers of one rank, averaged over its armed steps. Made anew only when the rank was looked into again."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from math import isnan
from statistics import fmean

from torchtop import gpu_peaks, roofline
from torchtop.snapshot import Layer
from torchtop.window import RankWindow, Window

LIMIT = 5_000  # rows of one snapshot; the rest is counted in layers_left_out

Rows = tuple[tuple[Layer, ...], int]


def layers(window: RankWindow, rank: int | None, peaks: roofline.Peaks | None = None, limit: int = LIMIT) -> Rows:
    """(rows in the order of named_modules(), how many were left out) of the modules called in armed steps.

    peaks: of what it computes on; None: the best layer stands for them.
    """
    return window.layer_rows.of((window.revision, rank, peaks, limit), lambda: _layers(window, rank, peaks, limit))


def peaks_of(window: Window, rank: RankWindow) -> roofline.Peaks | None:
    """Peak rates of what a rank computes on; None when they are not known."""
    if not rank.on_cuda:
        threads = rank.facts.get("threads")
        return roofline.of_machine(window.machine, threads if isinstance(threads, int) else None)
    held = [
        readings[-1]
        for readings in window.devices_in_order()
        if len(window.devices) == 1 or rank.pid in {process.pid for process in readings[-1].processes or ()}
    ]
    found = gpu_peaks.published(held[0].name, held[0].mig_index is not None) if held else None
    if not isinstance(found, gpu_peaks.Peaks):
        return None
    return roofline.of_device(found.flops_per_s, found.memory_bytes_per_s, bool(rank.facts.get("tf32_matmul")))


def called_modules(window: RankWindow) -> Mapping[str, Sequence[int]]:
    """Shown name -> modules called in armed steps, in the order of named_modules().

    One entry a name: a module that the loop makes anew in every step (a loss, mostly) is one to its user.
    """
    return window.layer_names.of(window.revision, lambda: _called_modules(window))


def _called_modules(window: RankWindow) -> dict[str, list[int]]:
    named: dict[str, list[int]] = {}
    called = _called(window)
    roots = window.tree.trained_roots(called)
    for index in called:
        name = window.tree.shown_name(index, roots)
        if name is not None:
            named.setdefault(name, []).append(index)
    return named


def _called(window: RankWindow) -> array[int]:
    """Modules of all armed steps, in order. Steps of one model are mostly of the same modules."""
    distinct = {step.modules.indices.tobytes(): step.modules.indices for step in window.armed}
    if len(distinct) == 1:
        return next(iter(distinct.values()))
    return array("q", sorted({index for indices in distinct.values() for index in indices}))


def _layers(window: RankWindow, rank: int | None, peaks: roofline.Peaks | None, limit: int) -> Rows:
    if not window.armed:
        return (), 0
    times = _Times(window)
    named = called_modules(window)
    shown = list(named.items())[:limit]
    places = roofline.placed([_work(window, indices, times) for _, indices in shown], peaks)
    rows = tuple(
        _layer(window, rank, name, indices, times, place) for (name, indices), place in zip(shown, places, strict=True)
    )
    return rows, max(len(named) - limit, 0)


def _work(window: RankWindow, indices: Sequence[int], times: _Times) -> roofline.Work:
    index = indices[-1]
    module = window.tree.modules[index]
    shape, dtype, elements, _ = window.shapes.get(index, (None, None, None, None))
    calls = times.mean("calls", indices) or 0.0
    flops = module.flops_per_output
    return roofline.Work(
        flops=float(flops * elements) if flops and elements else None,
        bytes=roofline.forward_bytes(module.type, module.parameter_bytes, calls, shape, elements, flops, dtype),
        seconds=times.mean("self_forward_s", indices) if calls and not window.on_cuda else None,
        calls=calls,
        dtype=dtype,
    )


class _Times:
    """Means over the armed steps. Whole columns are summed: of 48 steps of 2,000 modules that takes 10 ms, not 60."""

    def __init__(self, window: RankWindow) -> None:
        called = _called(window)
        self._steps = len(window.armed)
        self.step_s = fmean(step.step_s for step in window.armed)
        self._at = {index: at for at, index in enumerate(called)}
        aligned = [step.modules.columns_of(called) for step in window.armed]
        measured = {name for step in window.armed for name in step.modules.columns}
        self._columns = {name: [columns[name] for columns in aligned] for name in measured}
        self._means = {
            name: [self._mean(values) for values in zip(*columns, strict=True)]
            for name, columns in self._columns.items()
        }

    def mean(self, name: str, indices: Sequence[int]) -> float | None:
        """Per step, of the modules `indices` together; None when none of them has that time."""
        if name not in self._columns:
            return None
        if len(indices) == 1:
            return self._means[name][self._at[indices[0]]]
        places = [self._at[index] for index in indices]
        return self._mean([column[at] for column in self._columns[name] for at in places])

    def _mean(self, values: Sequence[float]) -> float | None:
        total = sum(values)
        if isnan(total):
            known = [value for value in values if not isnan(value)]
            if not known:
                return None
            total = sum(known)
        return total / self._steps


def _layer(
    window: RankWindow,
    rank: int | None,
    name: str,
    indices: Sequence[int],
    times: _Times,
    place: roofline.Place,
) -> Layer:
    index = indices[-1]
    module = window.tree.modules[index]
    calls = times.mean("calls", indices) or 0.0
    shape, dtype, elements, stored = window.shapes.get(index, (None, None, None, None))
    flops = module.flops_per_output

    def seconds(column: str) -> float | None:
        # When the host queued its kernels is not how long a layer took: no number is better than that one.
        return None if window.on_cuda else times.mean(column, indices)

    own_s = seconds("self_s")
    return Layer(
        rank=rank,
        name=name,
        type=module.type,
        calls=calls,
        forward_s=seconds("forward_s") if calls else None,
        backward_s=seconds("backward_s"),
        self_forward_s=seconds("self_forward_s") if calls else None,
        self_backward_s=seconds("self_backward_s"),
        recompute_s=seconds("recompute_s"),
        share=own_s / times.step_s if own_s is not None and times.step_s else None,
        parameters=module.parameters,
        parameter_bytes=module.parameter_bytes,
        activation_bytes=stored or None,
        output_shape=shape,
        flops=float(flops * elements) if flops and elements else None,
        dtype=dtype,
        called_at=window.sites.of(index),
        flops_per_s=place.flops_per_s,
        bytes_per_s=place.bytes_per_s,
        bound_by=place.bound_by,
        bound_share=place.share,
        bound_peaks=place.source,
    )
