"""How long the products of a step take at the very least: at the rate that the card's vendor publishes.

No card is faster than its peak, so this is a lower bound of the time that goes there, known though layers are not timed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from torchtop.seen import DeviceSeen, RankSeen
from torchtop.snapshot import Layer

AT_LEAST = 2  # passes: forward, and of backward the product for the input or for the weight: a frozen layer has but one
ALL = 3  # passes of a layer that is trained: forward, and backward for the input and for the weight
_IS_CONVOLUTION = "Conv"  # begins the names of torch's; cuDNN uses TF32 for them unless it is told not to


class Product(NamedTuple):
    """What one layer multiplies in a step."""

    layer: Layer
    flops: float
    """floating-point operations of forward, per step."""
    kind: str | None
    """key of the peaks; None: this card has no peak of that kind."""
    is_trained: bool
    """whether there is a backward pass."""


def products(rank: RankSeen, device: DeviceSeen) -> tuple[Product, ...]:
    """Layers with a formula, in their order. Five rules ask: of 2,000 layers it takes 1 ms, so the rank keeps it."""
    kept: tuple[DeviceSeen, tuple[Product, ...]] | None = vars(rank).get("_products")
    if kept is None or kept[0] is not device:
        kept = vars(rank)["_products"] = device, _products(rank, device.peak_flops_per_s or {})
    return kept[1]


def _products(rank: RankSeen, peaks: dict[str, float]) -> tuple[Product, ...]:
    found, kinds = [], {}
    for layer in rank.layers:
        if layer.flops:
            what = layer.dtype, is_convolution(layer)
            if what not in kinds:
                kind = _kind(rank, layer, peaks)
                kinds[what] = kind if kind in peaks else None
            # An output that needs no gradient has no backward pass.
            found.append(Product(layer, layer.flops, kinds[what], bool(rank.training and layer.activation_bytes)))
    return tuple(found)


def seconds(some: Iterable[Product], device: DeviceSeen, passes: int = AT_LEAST, kind: str | None = None) -> float:
    """s per step at the peak of each one's kind, or of `kind` for all; those of which there is no peak take none."""
    flops: dict[str, float] = {}
    for one in some:
        if one.kind is not None:
            flops[one.kind] = flops.get(one.kind, 0.0) + one.flops * (passes if one.is_trained else 1)
    peaks = device.peak_flops_per_s or {}
    return sum(number / peaks[kind or own] for own, number in flops.items())


def tf32_is_on(rank: RankSeen) -> bool:
    """Whether matrix products in float32 may use TF32."""
    return bool(rank.facts.tf32_matmul) or rank.facts.matmul_precision in ("high", "medium")


def is_convolution(layer: Layer) -> bool:
    """Whether cuDNN computes it, and not cuBLAS."""
    return layer.type.startswith(_IS_CONVOLUTION)


def _kind(rank: RankSeen, layer: Layer, peaks: dict[str, float]) -> str:
    dtype = layer.dtype or "float32"
    if dtype != "float32" or "tf32" not in peaks:
        return dtype
    return "tf32" if tf32_is_on(rank) or is_convolution(layer) else "float32"
