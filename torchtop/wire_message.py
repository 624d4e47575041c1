"""What a message of the probe must look like before anything here looks into it. Shapes: torchtop/probe/teller.py.

The socket may be served by a probe of another torchtop, by one that is broken, or by a program that only claims to be
one. What passes here can be counted, sorted and written down without a surprise; fields that are new are left alone.
"""

from __future__ import annotations

import math
from array import array
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from torchtop.probe import wire

_INT64 = 2**63
_DEEPEST = 8  # levels of lists and objects in `facts`

Count = Annotated[int, Meta(ge=0, lt=_INT64 - 1, description="how many")]
Seconds = Annotated[float, Meta(ge=0, le=1e12, description="s, a time of CLOCK_MONOTONIC or a duration")]
Amount = Annotated[float, Meta(ge=0, le=1e18, description="samples or tokens")]
Text = Annotated[str, Meta(max_length=4096, description="one line for a person")]
Index = Annotated[int, Meta(ge=0, lt=wire.MODULE_LIMIT, description="number of a module")]
Root = Annotated[int, Meta(ge=-1, lt=wire.MODULE_LIMIT, description="number of a root module, -1: of none")]
Site = Annotated[int, Meta(ge=0, lt=wire.SITE_LIMIT, description="number of a frame")]
Caller = Annotated[int, Meta(ge=-1, lt=wire.SITE_LIMIT, description="number of the frame that called, -1: not known")]
Norm = Annotated[float, Meta(ge=0, le=1e200, description="2-norm of a parameter")]
Row = tuple[
    Seconds, Seconds, Count, Count, Amount | None, Seconds | None, Seconds | None, Seconds | None, Seconds | None
]  # wire.STEP_COLUMNS
Line = tuple[Text, Text, Count] | None  # function, file, line
Generation = Annotated[int, Meta(ge=0, le=2, description="of Python's garbage collector")]


class Hello(Struct, frozen=True):
    """`hello`."""

    pid: Annotated[Count, Meta(description="of the target, as it sees itself")]
    python: Annotated[Text, Meta(description="version")]
    torch: Annotated[Text | None, Meta(description="version, None while it is not imported")]


class Rows(Struct, frozen=True):
    """`step`."""

    rows: Annotated[list[Row], Meta(description="steps that ended since the last message")]
    reset: Annotated[bool, Meta(description="all that was counted before were no steps")] = False


class Loss(Struct, frozen=True):
    """`layers` with a loss."""

    loss: Annotated[float | None, Meta(description="of the last backward, None when it is not finite")]
    loss_finite: Annotated[bool, Meta(description="false for NaN and infinities")]


class MarksPart(Struct, frozen=True):
    """`layers` with marks of an armed step, or with the first of them."""

    step: Annotated[Count, Meta(description="number of the step")]
    part: Annotated[Count, Meta(description="number of this part, from 0")]
    parts: Annotated[int, Meta(ge=1, le=64, description="parts of this step; mark.LIMIT makes 20")]
    times: Annotated[bytes, Meta(description="float64 each, s")]
    codes: Annotated[bytes, Meta(description="int64 each, see wire.mark")]


class Marks(MarksPart, frozen=True):
    """The last part: what is known of the whole step."""

    t0: Annotated[Seconds, Meta(description="when it began")]
    t1: Annotated[Seconds, Meta(description="when it ended")]
    cost_s: Annotated[
        tuple[Seconds, Seconds, Seconds],
        Meta(description="s that the probe took: in forward, in backward, in no phase"),
    ]
    calls: Annotated[Count, Meta(description="module calls")]
    taps: Annotated[Count, Meta(description="graph nodes with a hook")]
    loss_s: Annotated[Seconds, Meta(description="s of CPU between root forward and backward")]
    batch: Annotated[Amount | None, Meta(description="samples")]
    micro_batch: Annotated[Amount | None, Meta(description="samples of one forward")]
    recalled: Annotated[bool, Meta(description="the model was called again on what may be the same samples")]
    tokens: Annotated[Amount | None, Meta(description="tokens")]
    training: Annotated[bool, Meta(description="a root ran with gradients")]
    evaluating: Annotated[bool, Meta(description="a root ran in eval mode")]
    shapes: Annotated[
        list[tuple[Index, list[Count], Text, Count, Count]],
        Meta(description="index, shape, dtype, elements, bytes kept for backward"),
    ] = []


class Pauses(Struct, frozen=True):
    """`pauses`. What is summed up is what came since the last message."""

    t: Annotated[Seconds, Meta(description="when it was written")]
    gc: Annotated[
        list[tuple[Seconds, Seconds, Generation, bool, Line]],
        Meta(description="runs of the garbage collector: end, s, generation, asked for, line"),
    ]
    saves: Annotated[list[tuple[Seconds, Seconds, Text, Line]], Meta(description="end, s, function, line")]
    gc_s: Annotated[Seconds, Meta(description="s in all runs, those of generation 0 as well")]
    zero_grad: Annotated[
        tuple[Count, Seconds, Count, Line], Meta(description="calls, s, with set_to_none=False, line of those")
    ]


class Allocator(Struct, frozen=True):
    """`allocator`."""

    t: Annotated[Seconds, Meta(description="when it was read")]
    allocated_bytes: Annotated[Count, Meta(description="in tensors")]
    reserved_bytes: Annotated[Count, Meta(description="held from the driver")]
    peak_bytes: Annotated[Count, Meta(description="in tensors at most")]
    retries: Annotated[Count, Meta(description="times that the cache was given back to go on")] = 0


class Modules(Struct, frozen=True, rename={"kind": "class"}):
    """`modules`."""

    root: Annotated[Root, Meta(description="that the rows belong to")]
    kind: Annotated[Text | None, Meta(description="its class")]
    parameters: Annotated[Count | None, Meta(description="tensors in it")]
    rows: Annotated[
        list[tuple[Index, Root, Text, Text, Count, Count, Amount | None, bool]],
        Meta(description="index, root, name, type, parameters, bytes, flops per output, leaf"),
    ]


class Sites(Struct, frozen=True):
    """`sites`."""

    first: Annotated[int, Meta(ge=0, le=wire.SITE_LIMIT, description="number of the first of `frames`")]
    frames: Annotated[
        list[tuple[Caller, Text, Text, Count]], Meta(description="caller, function, file, line; callers come first")
    ]
    calls: Annotated[list[tuple[Index, Site]], Meta(description="module, and the frame that calls it")]


class Facts(Struct, frozen=True):
    """What is read of `facts`; the rest of it only has to be plain."""

    devices: Annotated[list[Text], Meta(description="types of device that hold parameters")] = []
    optimizers: Annotated[list[dict[str, Any]], Meta(description="class and settings of each")] = []
    distributed: Annotated[dict[str, Any] | None, Meta(description="backend, rank, world size")] = None


class FactsMessage(Struct, frozen=True):
    """`facts`."""

    facts: Annotated[Facts, Meta(description="settings of the job")]


class Memory(Struct, frozen=True):
    """`memory`."""

    parameters_bytes: Annotated[Count | None, Meta(description="of parameters")] = None
    gradients_bytes: Annotated[Count | None, Meta(description="of gradients")] = None
    optimizer_bytes: Annotated[Count | None, Meta(description="of optimizer state")] = None


class WeightsPart(Struct, frozen=True):
    """`weights`: a part of a scan."""

    part: Annotated[Count, Meta(description="number of this part, from 0")]
    parts: Annotated[int, Meta(ge=1, le=512, description="parts of this scan, of 500 rows each")]
    t: Annotated[Seconds, Meta(description="when it was complete")]
    boundaries: Annotated[Count, Meta(description="looks at gradients")]
    elements: Annotated[Count, Meta(description="of all parameters")]
    optimized_elements: Annotated[Count | None, Meta(description="of those that optimizers hold and train")]
    left_out: Annotated[dict[Text, Count], Meta(description="reason -> parameters", max_length=100)]
    modules: Annotated[
        list[tuple[Index, Text, Text]], Meta(description="number of its root, name, type; numbered in order")
    ] = []
    rows: Annotated[
        list[
            tuple[
                Index,
                Text,
                Count,
                Count,
                bool,
                bool | None,
                Count | None,
                Count | None,
                Count | None,
                Count | None,
                Count | None,
                Norm | None,
                bool | None,
            ]
        ],
        Meta(description="see probe/watch/weights.py"),
    ] = []
    loose: Annotated[list[tuple[Count, Count]], Meta(description="elements and bytes of parameters without a row")] = []


class NoWeights(Struct, frozen=True):
    """`weights`: why there is no scan yet."""

    reason: Annotated[Text, Meta(description="one line for a person")]


class Health(Struct, frozen=True):
    """`health`."""

    errors: Annotated[Count, Meta(description="exceptions inside the probe")]
    dropped: Annotated[Count, Meta(description="messages and marks that were lost")]
    left_behind: Annotated[list[Text], Meta(description="what could not be taken out")] = []
    cost_share: Annotated[Amount | None, Meta(description="share of step time")] = None
    sampled_steps: Annotated[Count, Meta(description="armed steps")] = 0
    every: Annotated[Count | None, Meta(description="one step in so many is armed")] = None
    step_rows_dropped: Annotated[Count, Meta(description="steps that were lost")] = 0


class Bye(Struct, frozen=True):
    """`bye`."""

    left_behind: Annotated[list[Text], Meta(description="what could not be taken out")] = []
    error: Annotated[Text | None, Meta(description="why there is no probe")] = None
    reason: Annotated[Text | None, Meta(description="why the probe let go of us, None when we asked it to")] = None


class Lease(Struct, frozen=True):
    """`lease`."""

    held: Annotated[bool, Meta(description="we may change the job")]
    pid: Annotated[Count | None, Meta(description="of the holder, as the target sees it")]
    uid: Annotated[Count | None, Meta(description="of the holder")]


_TYPES: dict[str, type[Struct]] = {
    wire.HELLO: Hello,
    wire.STEP: Rows,
    wire.MODULES: Modules,
    wire.PAUSES: Pauses,
    wire.ALLOCATOR: Allocator,
    wire.FACTS: FactsMessage,
    wire.MEMORY: Memory,
    wire.HEALTH: Health,
    wire.BYE: Bye,
    wire.LEASE: Lease,
}
_parse = msgspec.json.Decoder(dict[str, Any]).decode


def decode(line: bytes) -> dict[str, Any]:
    """One line as an object with an int `v` and a str `type`, nothing else known of it yet. ValueError when it is not."""
    try:
        body = _parse(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if type(body.get("v")) is not int or not isinstance(body.get("type"), str):
        raise ValueError("it has no version and type")
    return body


def check(body: dict[str, Any]) -> None:
    """Raise ValueError, saying what is wrong, unless `body` is what its type says; types that are new pass."""
    kind = body["type"]
    try:
        if kind == wire.LAYERS:
            _check_layers(body)
        elif kind == wire.SITES:
            _check_sites(body)
        elif kind == wire.WEIGHTS:
            _check_weights(body)
        elif kind in _TYPES:
            msgspec.convert(body, _TYPES[kind])
    except msgspec.ValidationError as error:
        raise ValueError(f"{kind}: {error}") from None
    if kind == wire.FACTS and not _is_plain(body["facts"], _DEEPEST):
        raise ValueError("facts: too deep, or a number out of range")


def _check_layers(body: dict[str, Any]) -> None:
    if "loss_finite" in body:
        msgspec.convert(body, Loss)
    elif "times" in body:
        part = msgspec.convert(body, MarksPart)
        if part.part >= part.parts or len(part.times) != len(part.codes) or len(part.times) % 8:
            raise ValueError("layers: parts or marks that do not fit together")
        times, codes = array("d", part.times), array("q", part.codes)
        # Of finite times none can make the sum of so few infinite; of codes, the bits above the lowest 8 are an index.
        if times and not (math.isfinite(sum(times)) and 0 <= min(codes) and max(codes) >> 8 < wire.MODULE_LIMIT):
            raise ValueError("layers: a mark that cannot be")
        if part.part == part.parts - 1 and (last := msgspec.convert(body, Marks)).t1 < last.t0:
            raise ValueError("layers: a step that ends before it begins")


def _check_sites(body: dict[str, Any]) -> None:
    sites = msgspec.convert(body, Sites)
    if sites.first + len(sites.frames) > wire.SITE_LIMIT:
        raise ValueError("sites: more than there may be")
    if any(caller >= number for number, (caller, *_) in enumerate(sites.frames, sites.first)):
        raise ValueError("sites: a frame that was called by a later one")


def _check_weights(body: dict[str, Any]) -> None:
    if "reason" in body:
        msgspec.convert(body, NoWeights)
        return
    part = msgspec.convert(body, WeightsPart)
    if part.part >= part.parts:
        raise ValueError("weights: parts that do not fit together")
    for _, _, elements, _, _, _, channels, channels_looked, channels_zero, looked, elements_zero, _, _ in part.rows:
        fits = (channels_zero or 0) <= (channels_looked or 0) <= (channels or 0)
        if not (fits and (elements_zero or 0) <= (looked or 0) <= elements):
            raise ValueError("weights: more near zero than there are")


def _is_plain(value: Any, depth: int) -> bool:
    """Whether it can be written as JSON again: numbers of 64 bits, and not too deep."""
    if isinstance(value, dict):
        return depth > 0 and all(_is_plain(item, depth - 1) for item in value.values())
    if isinstance(value, list):
        return depth > 0 and all(_is_plain(item, depth - 1) for item in value)
    return not isinstance(value, int) or -_INT64 <= value < _INT64
