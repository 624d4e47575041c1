"""What one row of the layers says: of a module by itself, or together with all inside it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torchtop.snapshot import Layer
from torchtop.tui.layers.tree import Tree


class Measure(NamedTuple):
    """Per sampled step. self_s, total_s: s of forward and backward, without and with all inside; flops: of forward."""

    type: str
    forward_s: float | None = None
    backward_s: float | None = None
    share: float | None = None
    self_s: float | None = None
    total_s: float | None = None
    recompute_s: float | None = None
    calls: float | None = None
    parameters: int = 0
    parameter_bytes: int = 0
    activation_bytes: int | None = None
    flops: float | None = None
    shape: tuple[int, ...] | None = None
    dtype: str | None = None

    @property
    def rate(self) -> float | None:
        """FLOP/s of forward."""
        return ratio(self.flops, self.forward_s)


_HOLDER = Measure("")


def alone(layer: Layer) -> Measure:
    """Without what is inside it."""
    return Measure(
        layer.type,
        layer.self_forward_s,
        layer.self_backward_s,
        layer.share,
        total(layer.self_forward_s, layer.self_backward_s),
        total(layer.forward_s, layer.backward_s),
        layer.recompute_s,
        layer.calls,
        layer.parameters,
        layer.parameter_bytes,
        layer.activation_bytes,
        layer.flops,
        layer.output_shape,
        layer.dtype,
    )


def together(tree: Tree, layers: Mapping[str, Layer], step_s: float | None) -> dict[str, Measure]:
    """Of each module and holder with all inside. Times are a module's own inclusive ones; only a holder's are sums.

    step_s: s, mean of the sampled steps, which shares are of.
    """
    found: dict[str, Measure] = {}
    for name in reversed(tree.order):
        layer = layers.get(name)
        own = alone(layer) if layer is not None else _HOLDER
        inside = [found[child] for child in tree.children(name)]
        if layer is not None:
            forward_s, backward_s, recompute_s = layer.forward_s, layer.backward_s, layer.recompute_s
        else:
            forward_s = total(*(one.forward_s for one in inside))
            backward_s = total(*(one.backward_s for one in inside))
            recompute_s = total(*(one.recompute_s for one in inside))
        whole = total(forward_s, backward_s)
        found[name] = own._replace(
            forward_s=forward_s,
            backward_s=backward_s,
            share=ratio(whole, step_s),
            total_s=whole,
            recompute_s=recompute_s,
            parameters=own.parameters + sum(one.parameters for one in inside),
            parameter_bytes=own.parameter_bytes + sum(one.parameter_bytes for one in inside),
            activation_bytes=_bytes(own.activation_bytes, *(one.activation_bytes for one in inside)),
            flops=total(own.flops, *(one.flops for one in inside)),
        )
    return found


def total(*values: float | None) -> float | None:
    """Sum of those that are known; None if none is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def ratio(part: float | None, whole: float | None) -> float | None:
    """`part` / `whole`; None where one is missing or the whole is nothing."""
    return part / whole if part is not None and whole else None


def _bytes(*values: int | None) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
