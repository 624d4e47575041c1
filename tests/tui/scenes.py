"""Hand-made snapshots, one for each thing that the screen must be able to show. The same call gives the same snapshot.

`SCENES` has them all by name. They grow out of a recorded one (the transformer demo, watched on a CPU) and are whole:
histories, layers with all their parents, ranks, health.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from tests.tui.found import (
    EARLY,
    HOST_STALL,
    INPUT_BOUND,
    NOT_ATTACHED,
    NOT_FOR_CPU,
    PID,
    STRAGGLER,
    THROTTLED,
    UNFUSED_OPTIMIZER,
    UNUSED_PARAMETERS,
)
from torchtop.snapshot import (
    Device,
    DeviceHistory,
    DeviceProcess,
    Distribution,
    Frame,
    Health,
    History,
    Layer,
    Memory,
    Phases,
    Rank,
    Snapshot,
    Stack,
    Steps,
)

RECORDED = Path(__file__).parents[1] / "fixtures/snapshot_transformer.json"
WINDOW_S = 60.0
GIB, MIB = 2**30, 2**20
POINTS = 240  # of a history
WHERE = "__getitem__ (dataset.py:57)"
NO_PROBE = "nothing was put into it, as asked (--no-probe)"
WAITS = f"waits for a Python safe point of its main thread, which is in {WHERE}"


def healthy() -> Snapshot:
    """The transformer demo on a CPU, all well."""
    snapshot = _recorded()
    base = snapshot.steps
    (distribution,) = base.by_rank
    sampled, count = 132, 552
    (rank,) = snapshot.job.ranks
    rank = replace(rank, pid=PID, process_state="R", cgroup_memory_bytes=612 * MIB)
    assert snapshot.health.probe is not None and base.median_s is not None
    return replace(
        snapshot,
        taken="2026-11-22T09:00:00.000+00:00",
        window_s=WINDOW_S,
        host=replace(snapshot.host, hostname="box", load1=1.21),
        job=replace(snapshot.job, id=f"{PID}-1", ranks=(rank,)),
        steps=replace(
            base,
            pid=PID,
            count=count,
            total=1234,
            sampled=sampled,
            by_rank=(replace(distribution, pid=PID, count=count, sampled=sampled),),
        ),
        layers=_all_layers(),
        layers_left_out=0,
        stacks=(_stack(PID),),
        history=History(
            step_s=wave(base.median_s, 0.06),
            cpu_util=wave(0.51, 0.1, 60),
            cores=wave(1.0, 0.02, 60),
            rss_bytes=tuple(round(value) for value in wave(rank.rss_bytes or 0, 0.004, 60)),
            devices=(),
            layer=None,
        ),
        abstained=NOT_FOR_CPU,
        health=replace(snapshot.health, probe=replace(snapshot.health.probe, sampled_steps=310)),
    )


def slow_loader() -> Snapshot:
    """Three fifths of a step go by waiting for the data loader."""
    phases = Phases(
        data=0.0661, transfer=None, forward=0.0172, backward=0.0229, optimizer=0.0031, communication=None, other=0.0008
    )
    snapshot = _timed(healthy(), 0.1101, phases)
    (rank,) = snapshot.job.ranks
    rank = replace(rank, cpu_share=0.42, workers=1, workers_cpu_share=0.98)
    command = "/home/me/.venv/bin/python -m torchtop.demo.slow_loader"
    return replace(snapshot, job=replace(snapshot.job, command=command, ranks=(rank,)), findings=(INPUT_BOUND,))


def memory_nearly_full() -> Snapshot:
    """A cgroup's limit with 4 % left."""
    snapshot = healthy()
    limit, used, known = 4 * GIB, round(3.84 * GIB), (700 * MIB, 700 * MIB, 1400 * MIB)
    (rank,) = snapshot.job.ranks
    rank = replace(rank, rss_bytes=used, cgroup_memory_bytes=used, cgroup_memory_limit_bytes=limit)
    memory = replace(
        snapshot.memory,
        parameters_bytes=known[0],
        gradients_bytes=known[1],
        optimizer_bytes=known[2],
        other_bytes=used - sum(known),
        used_bytes=used,
        peak_bytes=round(3.9 * GIB),
        limit_bytes=limit,
    )
    return replace(snapshot, job=replace(snapshot.job, ranks=(rank,)), memory=memory)


def compiled() -> Snapshot:
    """A compiled model: steps and memory, no layers, nothing sampled."""
    snapshot = healthy()
    phases = Phases(
        data=0.0002, transfer=None, forward=None, backward=0.0459, optimizer=0.0043, communication=None, other=0.058
    )
    snapshot = _timed(snapshot, 0.1084, phases)
    reasons = {**snapshot.steps.phase_reasons}
    reasons["forward"] = "the model is compiled and not looked into: its forward is in `other`"
    steps = replace(snapshot.steps, compiled=True, sampled=0, loss=None, loss_finite=None, phase_reasons=reasons)
    steps = replace(steps, by_rank=(replace(steps.by_rank[0], sampled=0),))
    assert snapshot.health.probe is not None
    probe = replace(snapshot.health.probe, sampled_steps=0, every=None, cost_share=0.0004)
    return replace(snapshot, steps=steps, layers=(), health=replace(snapshot.health, probe=probe))


def ended() -> Snapshot:
    """The job has ended with an exit code; what was seen stays."""
    return _ranks(
        healthy(), state="lost", stage="ended", reason="the process has ended (exit code 1)", process_state=None
    )


def two_ranks() -> Snapshot:
    """Ranks 0 and 1 of 4, the second a tenth slower; the others are on another machine."""
    return replace(_spread(healthy(), here=2, world=4, slower={1: 1.1}), findings=(STRAGGLER,))


def attaching() -> Snapshot:
    """No probe yet: what is waited for, and where the target is meanwhile."""
    outside = _without_probe(healthy())
    outside = _ranks(outside, state="outside", stage="attaching", reason=WAITS)
    none: tuple[None, ...] = ()
    history = History(step_s=(), cpu_util=none, cores=none, rss_bytes=none, devices=(), layer=None)
    return replace(outside, window_s=2.0, history=history)


def outside() -> Snapshot:
    """Watched without a probe, as asked."""
    snapshot = _ranks(_without_probe(healthy()), state="outside", reason=NO_PROBE)
    assert snapshot.history is not None
    return replace(snapshot, history=replace(snapshot.history, step_s=(), rss_bytes=()))


def eight_gpus() -> Snapshot:
    """Eight ranks on eight GPUs; GPU 3 is too hot and GPU 6 at its power limit, rank 3 a fifth slower for it."""
    snapshot = _spread(healthy(), here=8, world=8, slower={3: 1.2})
    why = "the device's time between the phases is not put together yet: host_phases_s has the host's"
    steps = snapshot.steps
    steps = replace(
        steps,
        host_phases_s=steps.phases_s,
        phases_s=None,
        phase_reasons=dict.fromkeys(Phases.__struct_fields__, why),
        by_rank=tuple(replace(one, phases_s=None) for one in steps.by_rank),
    )
    ranks = tuple(replace(rank, device="cuda", workers=4, workers_cpu_share=2.1) for rank in snapshot.job.ranks)
    assert snapshot.history is not None
    collectors = tuple(
        replace(row, state="on", reason=None, mean_s=0.0021) if row.name == "gpu" else row
        for row in snapshot.health.collectors
    )
    memory = Memory(
        parameters_bytes=13 * GIB,
        gradients_bytes=13 * GIB,
        optimizer_bytes=26 * GIB,
        activations_bytes=5 * GIB,
        other_bytes=1 * GIB,
        used_bytes=58 * GIB,
        reserved_bytes=61 * GIB,
        peak_bytes=60 * GIB,
        limit_bytes=80 * GIB,
        reasons={},
    )
    return replace(
        snapshot,
        host=replace(snapshot.host, cpus=192, memory_bytes=2048 * GIB, memory_available_bytes=1611 * GIB, cpu_util=0.2),
        devices=tuple(_gpu(index) for index in range(8)),
        job=replace(snapshot.job, command="python pretrain.py --config configs/llama-7b.yaml", ranks=ranks),
        steps=steps,
        memory=memory,
        findings=(THROTTLED,),
        abstained=(),
        history=replace(
            snapshot.history,
            devices=tuple(
                DeviceHistory(
                    index=index,
                    mig_index=None,
                    util=wave(0.7 if index == 3 else 0.95, 0.04, 60),
                    memory_used_bytes=(62 * GIB,) * 60,
                    power_w=wave(610, 0.05, 60),
                )
                for index in range(8)
            ),
        ),
        health=replace(snapshot.health, collectors=collectors),
    )


def diverged() -> Snapshot:
    """The loss is no number any more."""
    snapshot = healthy()
    return replace(snapshot, steps=replace(snapshot.steps, loss=None, loss_finite=False))


def stopped() -> Snapshot:
    """Stopped by a signal: nothing can change."""
    return _ranks(healthy(), process_state="T")


def many_layers(layers: int, ranks: int = 1) -> Snapshot:
    """A deep model of at least three modules on one machine; the layers of rank 0, as a screen is handed them."""
    found = [("", "Llama"), ("layers", "ModuleList")]
    parts = ("", ".attention", ".attention.q", ".attention.k", ".attention.v", ".attention.o", ".mlp", ".mlp.up")
    types = ("Block", "Attention", "Linear", "Linear", "Linear", "Linear", "MLP", "Linear")
    while len(found) < layers:
        block = (len(found) - 2) // len(parts)
        part = (len(found) - 2) % len(parts)
        found.append((f"layers.{block}{parts[part]}", types[part]))
    snapshot = healthy() if ranks == 1 else _spread(healthy(), here=ranks, world=ranks, slower={})
    rows = [
        _layer(name, kind, (1 + index % 7) * 0.03 / layers if kind == "Linear" else 0.0)
        for index, (name, kind) in enumerate(found)
    ]
    number = snapshot.job.ranks[0].rank
    rows = [replace(row, rank=number) for row in _with_parents(rows)]
    return replace(snapshot, layers=tuple(rows), layers_left_out=layers * (ranks - 1))


def advised() -> Snapshot:
    """Findings of every severity: three that cost time, and one that does not."""
    return replace(slow_loader(), findings=(INPUT_BOUND, HOST_STALL, UNFUSED_OPTIMIZER, UNUSED_PARAMETERS))


def many_findings() -> Snapshot:
    """More findings than any panel has rows."""
    kinds = (INPUT_BOUND, HOST_STALL, UNFUSED_OPTIMIZER)
    codes = [
        "input-bound",
        "host-stall",
        "unfused-optimizer",
        "gc-pauses",
        "checkpoint-stall",
        "step-jitter",
        "swapping",
        "grads-kept",
        "comm-bound",
        "memory-growth",
        "optimizer-state-heavy",
        "quantizable-inference",
        "hot-layer",
    ]
    found = [replace(kinds[min(place // 4, 2)], code=code) for place, code in enumerate(codes)]
    return replace(slow_loader(), findings=tuple(found))


def few_steps() -> Snapshot:
    """Too early for any finding: most rules lack steps."""
    steps = healthy().steps
    steps = replace(steps, count=4, total=4, by_rank=(replace(steps.by_rank[0], count=4),))
    return replace(healthy(), steps=steps, abstained=(*EARLY, *NOT_FOR_CPU))


SCENES: dict[str, Callable[[], Snapshot]] = {
    scene.__name__: scene
    for scene in (
        healthy,
        slow_loader,
        memory_nearly_full,
        compiled,
        ended,
        two_ranks,
        attaching,
        outside,
        eight_gpus,
        diverged,
        stopped,
        advised,
        many_findings,
        few_steps,
    )
}


def wave(middle: float, swing: float, points: int = POINTS) -> tuple[float, ...]:
    """`points` values around `middle`, off by at most `swing` (0..1) of it."""
    return tuple(middle * (1 + swing * math.sin(0.7 * n) * math.cos(0.13 * n)) for n in range(points))


def changed(snapshot: Snapshot, **parts: Any) -> Snapshot:
    """`snapshot` with `parts`, each a path like `steps__loss` or `job__ranks__0__state`, put in."""
    document = msgspec.to_builtins(snapshot)
    for path, value in parts.items():
        *above, name = path.split("__")
        inner = document
        for key in above:
            inner = inner[int(key) if key.isdigit() else key]
        inner[name] = value
    return msgspec.convert(document, Snapshot)


@cache
def _recorded() -> Snapshot:
    return msgspec.json.decode(RECORDED.read_bytes(), type=Snapshot)


def _timed(snapshot: Snapshot, step_s: float, phases: Phases) -> Snapshot:
    """Another step time, with everything that follows from it."""
    steps = snapshot.steps
    assert steps.batch_size is not None and snapshot.history is not None
    times: dict[str, Any] = {"mean_s": step_s, "median_s": 0.998 * step_s, "p95_s": 1.07 * step_s}
    times |= {"samples_per_s": steps.batch_size / step_s, "sampled_mean_s": step_s, "phases_s": phases}
    before = steps.phases_s
    assert before is not None and before.forward and before.backward
    factor = ((phases.forward or 0.0) + (phases.backward or 0.0)) / (before.forward + before.backward)
    return replace(
        snapshot,
        layers=tuple(_times(layer, factor) for layer in snapshot.layers),
        steps=replace(
            steps,
            **times,
            tokens_per_s=128 * steps.batch_size / step_s,
            by_rank=tuple(replace(one, **times) for one in steps.by_rank),
        ),
        history=replace(snapshot.history, step_s=wave(step_s, 0.07)),
    )


def _times(layer: Layer, factor: float) -> Layer:
    names = ("forward_s", "backward_s", "self_forward_s", "self_backward_s", "share")
    scaled = {name: factor * (getattr(layer, name) or 0.0) for name in names}
    return replace(layer, **scaled)


def _spread(snapshot: Snapshot, here: int, world: int, slower: dict[int, float]) -> Snapshot:
    """The same job on `here` of `world` ranks; slower: rank -> times as long a step."""
    (rank,), (one,) = snapshot.job.ranks, snapshot.steps.by_rank
    ranks: list[Rank] = []
    by_rank: list[Distribution] = []
    for number in range(here):
        factor = slower.get(number, 1.0 + 0.002 * number)
        pid = PID + number
        ranks.append(replace(rank, rank=number, local_rank=number, pid=pid))
        times = {name: factor * getattr(one, name) for name in ("mean_s", "median_s", "p95_s", "sampled_mean_s")}
        rate = (one.samples_per_s or 0.0) / factor
        by_rank.append(replace(one, rank=number, pid=pid, samples_per_s=rate, **times))
    slowest = max(by_rank, key=lambda found: found.mean_s or 0.0)
    steps = replace(
        snapshot.steps,
        pid=slowest.pid,
        mean_s=slowest.mean_s,
        median_s=slowest.median_s,
        p95_s=slowest.p95_s,
        sampled_mean_s=slowest.sampled_mean_s,
        samples_per_s=sum(found.samples_per_s or 0.0 for found in by_rank),
        tokens_per_s=128 * sum(found.samples_per_s or 0.0 for found in by_rank),
        phase_reasons={
            **snapshot.steps.phase_reasons,
            "communication": "exposed all-reduce time inside backward is not separated on CPU",
        },
        by_rank=tuple(by_rank),
    )
    assert steps.phases_s is not None and steps.sampled_mean_s is not None
    known = sum(value for value in msgspec.structs.astuple(steps.phases_s)[:-1] if value is not None)
    steps = replace(steps, phases_s=replace(steps.phases_s, other=steps.sampled_mean_s - known))
    assert snapshot.history is not None and steps.median_s is not None
    return replace(
        snapshot,
        history=replace(snapshot.history, step_s=wave(steps.median_s, 0.06)),
        job=replace(snapshot.job, world_size=world, ranks=tuple(ranks)),
        steps=steps,
        layers=tuple(replace(layer, rank=slowest.rank) for layer in snapshot.layers),
        layers_left_out=len(snapshot.layers) * (here - 1),
        stacks=tuple(_stack(found.pid, found.rank) for found in ranks),
    )


def _without_probe(snapshot: Snapshot) -> Snapshot:
    (rank,) = snapshot.job.ranks
    names = ("parameters_bytes", "gradients_bytes", "optimizer_bytes", "other_bytes", "activations_bytes")
    nothing: dict[str, Any] = dict.fromkeys((*names, "used_bytes", "peak_bytes", "reserved_bytes"))
    reasons = dict.fromkeys(names[:3], "no optimizer has stepped since attach")
    steps: dict[str, Any] = dict.fromkeys(Steps.__struct_fields__)
    steps |= {"reasons": {}, "excluded": {}, "phase_reasons": {}, "sampled": 0, "compiled": False, "by_rank": ()}
    return replace(
        snapshot,
        job=replace(snapshot.job, mode=None, ranks=(replace(rank, python=None, torch=None, device=None, attach=None),)),
        steps=Steps(**steps),
        layers=(),
        memory=replace(snapshot.memory, **nothing, reasons={**snapshot.memory.reasons, **reasons}),
        facts={},
        abstained=NOT_ATTACHED,
        health=Health(collectors=snapshot.health.collectors, probe=None, monitor=snapshot.health.monitor),
    )


def _ranks(snapshot: Snapshot, **fields: Any) -> Snapshot:
    """All ranks with these fields."""
    return replace(
        snapshot, job=replace(snapshot.job, ranks=tuple(replace(rank, **fields) for rank in snapshot.job.ranks))
    )


def _stack(pid: int, rank: int | None = None) -> Stack:
    frames = (
        Frame(function="scaled_dot_product_attention", file="/home/me/model/attention.py", line=41),
        Frame(function="forward", file="/home/me/model/block.py", line=87),
        Frame(function="<module>", file="/home/me/train.py", line=120),
    )
    return Stack(rank=rank, pid=pid, thread="MainThread", main=True, active=True, frames=frames)


def _gpu(index: int) -> Device:
    reasons = {3: ("hw-thermal-slowdown", "sw-thermal-slowdown"), 6: ("sw-power-cap",)}.get(index, ())
    return Device(
        index=index,
        mig_index=None,
        uuid=f"GPU-0000000{index}",
        name="NVIDIA H100 80GB HBM3",
        util=0.7 if index == 3 else 0.95,
        memory_util=0.61,
        memory_used_bytes=62 * GIB + index * 200 * MIB,
        memory_total_bytes=80 * GIB,
        power_w=697.0 if index == 6 else 605.0 + index,
        power_limit_w=700.0,
        energy_j=36_500.0,
        temperature_c=88.0 if index == 3 else 61.0 + index,
        sm_clock_mhz=1410 if index == 3 else 1980,
        sm_clock_max_mhz=1980,
        memory_clock_mhz=2619,
        throttle_reasons=reasons,
        peak_flops_per_s={"bfloat16": 989e12},
        peak_memory_bytes_per_s=3.35e12,
        processes=(DeviceProcess(pid=PID + index, memory_bytes=61 * GIB),),
        missing={},
    )


# Modules of the demo that the recording left out: last part of the name -> type, s of forward and backward by itself.
_SMALL = {
    "norm1": ("LayerNorm", 2.2e-4),
    "norm2": ("LayerNorm", 2.1e-4),
    "norm": ("LayerNorm", 2.0e-4),
    "qkv": ("Linear", 2.3e-3),
    "out": ("Linear", 8.1e-4),
    "1": ("GELU", 9.0e-4),
    "dropout": ("Dropout", 3.1e-4),
    "bytes": ("Embedding", 1.2e-4),
    "positions": ("Embedding", 9.0e-5),
    "head": ("Linear", 1.1e-3),
    "mlp": ("Sequential", 0.0),
    "blocks": ("Sequential", 0.0),
}


@cache
def _all_layers() -> tuple[Layer, ...]:
    """The recorded layers of the demo and all that it left out, in the order of named_modules()."""
    inner = ("", ".norm1", ".attention", ".attention.qkv", ".attention.out", ".norm2", ".mlp", ".mlp.0", ".mlp.1")
    blocks = [f"blocks.{block}{part}" for block in range(4) for part in (*inner, ".mlp.2", ".dropout")]
    known = {layer.name: layer for layer in _recorded().layers}
    rows = []
    for name in ("", "bytes", "positions", "dropout", "blocks", *blocks, "norm", "head"):
        block = name.rpartition(".")[0] == "blocks"
        kind, seconds = ("Block", 0.0) if block else _SMALL.get(name.rpartition(".")[2], ("Block", 0.0))
        rows.append(known.get(name) or _layer(name, kind, seconds))
    return tuple(_with_parents(rows))


def _layer(name: str, kind: str, seconds: float) -> Layer:
    """seconds: of forward and backward together, without children."""
    linear = kind == "Linear"
    return Layer(
        rank=None,
        name=name,
        type=kind,
        calls=1.0,
        forward_s=None,
        backward_s=None,
        self_forward_s=0.4 * seconds,
        self_backward_s=0.6 * seconds,
        recompute_s=None,
        share=seconds / (_recorded().steps.sampled_mean_s or 1.0),
        parameters=16_512 if linear else 0,
        parameter_bytes=66_048 if linear else 0,
        activation_bytes=524_288 if linear else None,
        output_shape=(8, 128, 128),
        flops=33_554_432.0 if linear else None,
        dtype="float32",
    )


def _with_parents(rows: Sequence[Layer]) -> list[Layer]:
    """The same with the times of everything below added to each module's own."""
    sums = {row.name: [row.self_forward_s or 0.0, row.self_backward_s or 0.0] for row in rows}
    for row in rows:
        name = row.name
        while name:
            name = name.rpartition(".")[0]
            if name in sums:
                sums[name][0] += row.self_forward_s or 0.0
                sums[name][1] += row.self_backward_s or 0.0
    return [replace(row, forward_s=sums[row.name][0], backward_s=sums[row.name][1]) for row in rows]
