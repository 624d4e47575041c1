"""small-batch: each step does little work for what a step costs anyway.

Defining inequality: seconds of a step that do not grow with the batch, with the optimizer fused, >= 0.40 of the step,
by the low end of the interval of the optimizer's part; with fewer than 8 samples in a forward (up to 16: info), and
memory for twice as many. On a GPU: busy >= 0.60 of the time, by the low end of the interval, at < 0.25 of its peak
FLOP/s.

## What it does
Adds up what a batch of any size costs: the optimizer, the call of each layer beyond its arithmetic, and fetching
weights that few rows use. Where batch sizes differ within the window, a line through step time by samples says it
instead. On a GPU it compares the FLOP/s reached with the peak of the device while that is busy.

## Why it matters
Twice the batch costs that part once for twice the samples.

## When it is wrong
The batch may be small by method (online learning), or because convergence asks for it. Inference that answers
requests has no batch to choose: without a DataLoader it is left alone. Samples that are long (tokens, pixels) fill a
layer one by one.

## Source
gpuprof 0.7.1 `small_batch`: SM utilization >= 60 % and MFU < 25 %. DLProf "GPU memory underutilized" for the
headroom. gpu-regime-profiler 1.1.0: a layer below 0.1 ms is bound by overhead. DeepView.Profile 0.14.5 fits time by
batch size.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from torchtop.advisor import gpus, least_time, place
from torchtop.advisor.footprint import Footprint, footprint
from torchtop.advisor.fused import leaves
from torchtop.advisor.judgement import Abstain, Judgement, confidence, measured, number, severity
from torchtop.advisor.statistics import Interval, median, percentile, share
from torchtop.seen import RankSeen, Seen
from torchtop.snapshot import Evidence, Finding, Layer

CODE = "small-batch"
NEEDS = ("steps",)
REMEDIES = ("bigger-batch",)
MIN_STEPS = 10  # fewer and one slow step decides
WARN = 0.40  # share of the step that does not grow with the batch: twice the batch is then 1.25 times as quick or more
SMALL = 8  # samples in one forward: the default of Hugging Face's Trainer, and an ordinary choice
SMALLISH = 16  # samples in one forward; up to here it is told, as info
UTILIZATION = 0.60  # share of time with a kernel on the GPU; gpuprof 0.7.1
MFU = 0.25  # share of the GPU's peak FLOP/s; gpuprof 0.7.1
ROOM = 0.90  # share of the memory there is that a larger batch may fill
_MOST = 4.0  # times the batch; remedies were predicted well up to here
_SHORT_S = 1e-4  # s of one forward call; gpu-regime-profiler 1.1.0 takes a layer below for bound by overhead
_ROWS = 16.0  # rows at which a weight's arithmetic takes as long as fetching it: 16 (forward) to 28, measured on a CPU
_CORE_FLOPS = 20e9  # FLOP/s that one core surely reaches in float32: for a job none of whose layers gets there
_CORE_BYTES = 5e9  # bytes/s that one core surely moves
_MOVES = {True: 5, False: 2}  # times the output that an element-wise layer moves, with backward and without
_PASSES = {True: 3, False: 1}  # times the FLOPs of forward, with backward and without
_BACKWARD = 3.5  # times its forward that a layer's backward takes at most; 1.5 to 4 was measured
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})  # which use their weights again for each place in the sequence
_OF_SEQUENCES = ("LSTM", "GRU", "RNN", "Transformer", "MultiheadAttention")
_SIZES_DIFFER = 0.75  # a batch at most this part of the usual one tells something of what a step costs without it
_OF_A_SIZE = 5  # steps of one batch size: fewer do not make a median


class _Fixed(NamedTuple):
    """What does not grow with the batch. part: of the step; on a GPU, of its peak FLOP/s that is not reached.

    anyway: share of the step, low end, if the optimizer were fused: what a fused kernel cures is none of the batch's.
    """

    part: Interval
    anyway: float
    evidence: tuple[Evidence, ...]
    sure: bool


def check(seen: Seen) -> Judgement:
    """Judge the slowest rank."""
    slow = seen.slow
    assert slow is not None
    batch = slow.micro_batch_size
    if batch is None:
        return Abstain("how many samples one forward takes was not seen")
    if max(batch, _handed_out(slow)) > SMALLISH or (seen.mode == "inference" and slow.facts.loader is None):
        return None
    if _may_be_places(slow):
        return Abstain("whether samples or the places of a sequence come first in its inputs is not known")
    found = _on_gpu(seen, slow) if slow.on_cuda else _on_cpu(seen, slow)
    if found is None or isinstance(found, Abstain):
        return found
    if severity(found.anyway, WARN) is None:
        return None
    used = footprint(seen)
    times = _room(seen, slow, used) if used is not None else None
    if times is None:
        return Abstain("whether there is memory for a larger batch is not known")
    if times < 2.0:
        return None
    step_s = seen.step_s or 0.0
    return Finding(
        code=CODE,
        severity="warn" if batch < SMALL and not (slow.on_cuda and not found.sure) else "info",
        confidence=confidence(found.part.low, WARN, len(slow.plain)) if found.sure else "low",
        # How much of a GPU's idle rate a larger batch would use was not measured.
        recoverable_s=None if slow.on_cuda else found.part.mean * step_s * (1 - 1 / times),
        share=min(found.part.mean, 1.0),
        evidence=(number("samples in a forward", batch, "samples", slow.window_s), *found.evidence),
        summary=f"with {batch} sample{'s' if batch > 1 else ''} in a forward, {_in_words(slow, found.part.mean)}",
        where=place.of(slow),
        remedies=REMEDIES,
    )


def _handed_out(slow: RankSeen) -> float:
    """Samples that the loader gives for one forward with its backward; 0.0 where nothing was told of it.

    An agent acts on one row and learns from 64, and a sequence may come with its places first: then the inputs of the
    first forward are not what a step is made of.
    """
    loader = slow.facts.loader
    told = loader.batch_size or 0 if loader is not None else 0
    return max(slow.batch_size or 0.0, told) / max(slow.micro_steps or 1.0, 1.0)


def _may_be_places(slow: RankSeen) -> bool:
    """Whether what was taken for samples may be the places of a sequence: torch's recurrent layers and transformers take
    them first unless they are told not to, and no loader says how many samples there are."""
    if any(row.samples is not None for row in slow.plain):
        return False
    outputs = (layer.output_shape for layer in slow.layers if layer.type.startswith(_OF_SEQUENCES))
    return any(shape is not None and len(shape) == 3 and shape[1] > SMALLISH for shape in outputs)


def _in_words(slow: RankSeen, part: float) -> str:
    if slow.on_cuda:
        return f"the GPU is busy at {1 - part:.0%} of its peak"
    return f"{part:.0%} of the step would be the same for more of them"


def _on_cpu(seen: Seen, slow: RankSeen) -> _Fixed | Abstain | None:
    by_size = _by_sizes(slow)
    if by_size is not None:
        told = measured("of the step without a batch, by steps of several sizes", by_size, "of the step", slow.window_s)
        return _Fixed(by_size, by_size.low, (told,), True)
    if slow.compiled:
        return Abstain("the model is compiled and not looked into")
    if not slow.phases or all(layer.share is None for layer in slow.layers):
        return Abstain("no layer was timed yet")
    optimizer = Interval(0.0, 0.0, 0.0)
    # With accumulation, larger parts of the same batch do not make the optimizer step more rarely.
    if (slow.micro_steps or 1.0) < 1.5:
        taken = share([row.optimizer_s or 0.0 for row in slow.plain], [row.step_s for row in slow.plain])
        optimizer = taken if taken is not None else optimizer
    rows, calls = _of_layers(seen, slow)
    part = Interval(*(min(one + rows + calls, 1.0) for one in optimizer))
    fused = optimizer.low * leaves(slow)
    return _Fixed(
        part,
        min((fused + rows + calls) / (1 - (optimizer.low - fused)), 1.0),
        (
            measured("the same for any batch", part, "of the step", slow.window_s),
            measured("of that: optimizer", optimizer, "of the step", slow.window_s),
            number("of that: fetching weights for few rows", rows, "of the step", slow.window_s),
            number("of that: calling layers", calls, "of the step", slow.window_s),
        ),
        True,
    )


def _of_layers(seen: Seen, slow: RankSeen) -> tuple[float, float]:
    """(share of the step in fetching weights that few rows use, share in calls of layers beyond their work)."""
    cores = min(float(slow.facts.threads or 1), seen.usable_cores or 1.0)
    best = max((layer.flops_per_s or 0.0 for layer in slow.layers), default=0.0)
    flops_per_s, bytes_per_s, rows_at_balance = max(best, _CORE_FLOPS), _CORE_BYTES, _ROWS
    core = seen.machine.core if seen.machine is not None else None
    if core is not None and core.float32_flops_per_s and core.copy_bytes_per_s:
        flops_per_s = max(flops_per_s, core.float32_flops_per_s * cores)
        rows_at_balance = 4 * core.float32_flops_per_s / (2 * core.copy_bytes_per_s)
    rows = calls = 0.0
    for layer in slow.layers:
        own_s = (layer.self_forward_s or 0.0) + (layer.self_backward_s or 0.0)
        if not layer.share or not layer.calls or own_s <= 0:
            continue
        fetching = _fetching(layer, slow.micro_batch_size or 1, rows_at_balance)
        calling = _calling(layer, own_s, flops_per_s, bytes_per_s)
        part = layer.share
        if slow.facts.distributed is not None:
            # The layer that comes last in backward waits there for the gradients of all ranks.
            part *= min((layer.self_forward_s or 0.0) * (1 + _BACKWARD) / own_s, 1.0)
        if fetching >= calling:
            rows += part * fetching
        else:
            calls += part * calling
    return rows, calls


def _fetching(layer: Layer, batch: int, rows_at_balance: float) -> float:
    """Share of the layer's time in fetching its weights."""
    if not layer.parameters:
        return 0.0
    if layer.type in _RECURRENT:
        used_for = float(batch)
    elif layer.flops:
        used_for = layer.flops / (2 * layer.parameters * layer.calls)
    else:
        return 0.0
    return 1 / (1 + used_for / rows_at_balance)


def _calling(layer: Layer, own_s: float, flops_per_s: float, bytes_per_s: float) -> float:
    """Share of the layer's time in calls that are short, beyond what its work needs."""
    if layer.self_forward_s is None or layer.self_forward_s / layer.calls >= _SHORT_S:
        return 0.0
    trains = layer.self_backward_s is not None
    if layer.flops:
        need_s = layer.flops * _PASSES[trains] / flops_per_s
    elif layer.output_shape is not None:
        need_s = prod(layer.output_shape) * layer.calls * 4 * _MOVES[trains] / bytes_per_s
    else:
        return 0.0
    return max(1 - need_s / own_s, 0.0)


def _by_sizes(slow: RankSeen) -> Interval | None:
    """Share of a usual step that is left at no samples, by a line through the usual batch and a smaller one."""
    sizes: dict[float, list[float]] = {}
    for row in slow.plain:
        if row.samples:
            sizes.setdefault(row.samples, []).append(row.step_s)
    known = {size: times for size, times in sizes.items() if len(times) >= _OF_A_SIZE}
    if len(known) < 2:
        return None
    usual = max(known, key=lambda size: len(known[size]))
    smaller = [size for size in known if size <= _SIZES_DIFFER * usual]
    if not smaller:
        return None
    at = min(smaller)
    usual_s = median(known[usual])
    ends = []
    for small_s in (median(known[at]), percentile(known[at], 0.25), percentile(known[at], 0.75)):
        each_s = (usual_s - small_s) / (usual - at)
        if each_s <= 0:
            return None  # what is smaller is not quicker: something else than the batch differs
        ends.append(min(max(1 - each_s * usual / usual_s, 0.0), 1.0))
    return Interval(*ends)


def _on_gpu(seen: Seen, slow: RankSeen) -> _Fixed | Abstain | None:
    held = gpus.of_rank(seen, slow)
    if isinstance(held, Abstain):
        return held
    device, step_s = held[0].device, seen.step_s
    busy = held[0].mean("util", lambda one: one.util)
    if isinstance(busy, Abstain):
        return busy
    work = least_time.products(slow, device)
    if not step_s or not work or any(one.kind is None for one in work):
        return Abstain("the FLOP/s that the GPU reaches are not known")
    if busy.low < UTILIZATION:
        return None
    reached = least_time.seconds(work, device, least_time.ALL) / step_s
    if reached >= MFU:
        return None
    rows = _rows_on(slow)
    rest = max(1 - reached, 0.0)
    told = [
        measured("GPU busy", busy, "of the time", slow.window_s),
        number("of its peak FLOP/s", reached, "share", slow.window_s),
    ]
    if rows is not None:
        told.append(number("rows that a weight is used for", rows, "rows", slow.window_s))
    balance = _balance(device.peak_flops_per_s, device.peak_memory_bytes_per_s)
    few = rows is not None and balance is not None and rows < balance
    return _Fixed(Interval(rest, rest, rest), rest, tuple(told), few)


def _rows_on(slow: RankSeen) -> float | None:
    """Rows that each weight is used for, by parameters."""
    known = [layer for layer in slow.layers if layer.flops and layer.parameters and layer.calls]
    weights = sum(layer.parameters * layer.calls for layer in known)
    return sum(layer.flops or 0.0 for layer in known) / (2 * weights) if weights else None


def _balance(flops_per_s: dict[str, float] | None, bytes_per_s: float | None) -> float | None:
    """Rows at which a weight in bfloat16 takes as long to use as to fetch."""
    peak = (flops_per_s or {}).get("bfloat16")
    return peak / bytes_per_s if peak and bytes_per_s else None


def _room(seen: Seen, slow: RankSeen, used: Footprint) -> float | None:
    """Times the batch that memory allows, 4 at most; None where it is not known how much there is."""
    if used.taken is None or not used.limit_bytes:
        return None
    kept = sum(one or 0 for one in (slow.parameters_bytes, slow.gradients_bytes, slow.optimizer_bytes))
    # All else is taken to grow with the batch: too much, which is the careful side.
    grows = max(used.peak_bytes - kept, 1) * (1 if slow.on_cuda else len(seen.ranks))
    return min(1 + max(ROOM - used.taken, 0.0) * used.limit_bytes / grows, _MOST)
