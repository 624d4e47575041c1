"""Scans of weights by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torchtop.seen import WeightRow, Weights


def weight(module: str, near: float = 0.0, singly: float = 0.008, **changes: Any) -> WeightRow:
    """A Linear of 512 x 512; near: share of its channels near zero, singly: of the elements in the others."""
    fields: dict[str, Any] = {
        "type": "Linear",
        "name": "weight",
        "elements": 512 * 512,
        "bytes": 4 * 512 * 512,
        "trainable": True,
        "had_gradient": True,
        "channels": 512,
        "channels_looked": 512,
        "norm": 13.0,
        "elements_looked": 65_536,
    }
    fields |= changes
    if fields["channels_looked"]:
        fields.setdefault("channels_near_zero", round(near * fields["channels_looked"]))
    if fields["elements_looked"]:
        fields.setdefault("elements_near_zero", round((near + (1 - near) * singly) * fields["elements_looked"]))
    return WeightRow(module=module, **fields)


def bias(module: str, **changes: Any) -> WeightRow:
    """Its bias, which has a row only because it never had a gradient."""
    return WeightRow(
        **{
            "module": module,
            "type": "Linear",
            "name": "bias",
            "elements": 512,
            "bytes": 2048,
            "trainable": True,
            "had_gradient": False,
            **changes,
        }
    )


def scan(rows: Sequence[WeightRow], **changes: Any) -> Weights:
    """A scan of those, all of them in an optimizer unless told."""
    fields: dict[str, Any] = {
        "t": 990.0,
        "boundaries": 160,
        "elements": sum(row.elements for row in rows),
        "optimized_elements": sum(row.elements for row in rows if row.trainable and row.had_gradient is not None),
    }
    return Weights(rows=tuple(rows), **{**fields, **changes})


def blocks(count: int = 8, near: float = 0.0, **changes: Any) -> list[WeightRow]:
    """As many equal layers as windows.healthy_layers has."""
    return [weight(f"blocks.{at}.fc", near, **changes) for at in range(count)]
