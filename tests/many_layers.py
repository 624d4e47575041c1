"""What the probe of a large model says: messages as torchtop/probe/teller.py sends them, made up but consistent.

For benchmarks, and for tests of what is computed in pieces.
"""

from __future__ import annotations

import base64
from array import array
from functools import cache
from itertools import accumulate
from typing import Any, NamedTuple

from torchtop.probe import wire

Message = dict[str, Any]

_PARTS = ("norm", "attention", "attention.query", "attention.key", "attention.value", "attention.out", "mlp", "mlp.up")
_TYPES = ("LayerNorm", "Attention", "Linear", "Linear", "Linear", "Linear", "MLP", "Linear")
_ROWS = 500  # modules in one message (teller._ROWS)


class Model(NamedTuple):
    """names: of its modules in the order of named_modules(); types: their classes; leaves: which hold no other."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    leaves: frozenset[int]


def model(layers: int) -> Model:
    """A transformer of `layers` modules: blocks in a list, eight modules in each."""
    names, types = ["", "blocks"], ["Transformer", "ModuleList"]
    while len(names) < layers:
        block = f"blocks.{(len(names) - 2) // (len(_PARTS) + 1)}"
        names += [block, *(f"{block}.{part}" for part in _PARTS)]
        types += ["Block", *_TYPES]
    names, types = names[:layers], types[:layers]
    holders = {name.rpartition(".")[0] for name in names[1:]}
    return Model(tuple(names), tuple(types), frozenset(i for i, name in enumerate(names) if name not in holders))


def modules(of: Model) -> list[Message]:
    """`modules`, in parts."""
    rows = [
        [index, 0, name, kind, 65_536, 262_144, 512.0 if index in of.leaves else None, index in of.leaves]
        for index, (name, kind) in enumerate(zip(of.names, of.types, strict=True))
    ]
    parts = [rows[at : at + _ROWS] for at in range(0, len(rows), _ROWS)]
    return [
        _sent(wire.MODULES, root=0, rows=part, parameters=2 * len(rows), **{"class": of.types[0]}) for part in parts
    ]


def facts() -> Message:
    """`facts` of a job on CPU with one optimizer."""
    return _sent(wire.FACTS, facts={"devices": ["cpu"], "optimizers": [{"class": "AdamW"}], "threads": 1})


def health(every: int) -> Message:
    """`health` of a probe that has lost nothing."""
    return _sent(wire.HEALTH, errors=0, dropped=0, left_behind=[], cost_share=0.004, every=every, sampled_steps=1)


def goodbye() -> Message:
    """`bye` of a probe that was asked to go."""
    return _sent(wire.BYE, left_behind=[])


def steps(t_end: float, step_s: float, count: int) -> Message:
    """`step`: the latest `count` steps of `step_s` each, the last of which ended at `t_end`."""
    ends = [t_end - step_s * (count - 1 - n) for n in range(count)]
    rows = [[end, step_s * (1 + 0.01 * (n % 5)), 0, 1, 32.0, 0.001, 0.02, 0.01, 0.001] for n, end in enumerate(ends)]
    return _sent(wire.STEP, rows=rows)


def armed(of: Model, number: int, t_end: float, step_s: float) -> Message:
    """`layers`: one armed step that ended at `t_end`. Each module is called once, in order; then backward."""
    codes, shapes = _codes(of), _shapes(of)
    # Uneven by the step's number, so that no two steps are alike.
    weights = [1.0 + (i * 7 + number * 3) % 11 / 10 for i in range(len(codes))]
    scale = step_s / sum(weights)
    times = array("d", accumulate((weight * scale for weight in weights), initial=t_end - step_s))[1:]
    return _sent(
        wire.LAYERS,
        step=number,
        part=0,
        parts=1,
        times=base64.b64encode(times.tobytes()).decode(),
        codes=base64.b64encode(codes.tobytes()).decode(),
        t0=t_end - step_s,
        t1=t_end,
        cost_s=[step_s / 500, step_s / 400, step_s / 5000],
        calls=len(of.names) - 1,
        taps=len(of.names),
        loss_s=step_s / 100,
        batch=32.0,
        micro_batch=32.0,
        recalled=False,
        tokens=16_384.0,
        training=True,
        evaluating=False,
        dropped=0,
        shapes=shapes,
    )


def with_marks(body: Message, t: float, extra: list[int], left_out: int | None) -> Message:
    """An armed step with more marks at `t`, and without those of module `left_out`."""
    times, codes = array("d", base64.b64decode(body["times"])), array("q", base64.b64decode(body["codes"]))
    kept = [(at, code) for at, code in zip(times, codes, strict=True) if left_out is None or code >> 8 != left_out]
    kept += [(t + 1e-4 * number, code) for number, code in enumerate(extra)]
    return {
        **body,
        "times": base64.b64encode(array("d", [at for at, _ in kept]).tobytes()).decode(),
        "codes": base64.b64encode(array("q", [code for _, code in kept]).tobytes()).decode(),
    }


@cache
def _codes(of: Model) -> array[int]:
    begun: list[int] = []
    codes = [wire.mark(wire.DATA_BEGIN), wire.mark(wire.DATA_END)]
    for index, name in enumerate(of.names):
        while begun and begun[-1] and not name.startswith(of.names[begun[-1]] + "."):
            codes.append(wire.mark(wire.FORWARD_END, begun.pop()))
        begun.append(index)
        codes.append(wire.mark(wire.FORWARD_BEGIN, index))
    codes += [wire.mark(wire.FORWARD_END, index) for index in reversed(begun)]
    codes.append(wire.mark(wire.BACKWARD_BEGIN))
    for index in reversed(range(len(of.names))):
        codes.append(wire.mark(wire.BACKWARD_IN, index))
        if index in of.leaves:
            codes.append(wire.mark(wire.BACKWARD_OUT, index))
    codes += [wire.mark(wire.BACKWARD_END), wire.mark(wire.OPTIMIZER_BEGIN), wire.mark(wire.OPTIMIZER_END)]
    return array("q", codes)


@cache
def _shapes(of: Model) -> list[list[Any]]:
    return [
        [index, [32, 512], "float32", 16_384, 65_536 if index in of.leaves else 0] for index in range(len(of.names))
    ]


def _sent(kind: str, **body: Any) -> Message:
    return {"v": wire.VERSION, "type": kind, "seq": 1, **body}
