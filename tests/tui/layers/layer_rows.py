"""Hand-made layers for the tests of the list and the tree."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from torchtop.snapshot import Layer

STEP_S = 0.1  # of which shares are

_NONE = Layer(
    rank=None,
    name="",
    type="Linear",
    calls=1.0,
    forward_s=None,
    backward_s=None,
    self_forward_s=None,
    self_backward_s=None,
    recompute_s=None,
    share=None,
    parameters=10,
    parameter_bytes=40,
    activation_bytes=None,
    output_shape=(8, 4),
    flops=None,
    dtype="float32",
)


def layer(name: str, own: float | None = None, inside: float = 0.0, **fields: Any) -> Layer:
    """own, inside: s of forward by itself and of all inside; backward takes as long. None: no times."""
    if own is None:
        return replace(_NONE, name=name, **fields)
    times = {"self_forward_s": own, "self_backward_s": own, "forward_s": own + inside, "backward_s": own + inside}
    return replace(_NONE, name=name, share=2 * own / STEP_S, **{**times, **fields})
