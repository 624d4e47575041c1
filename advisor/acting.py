"""Whether a job also asks its model without training it in that call: reinforcement learning acts, then learns."""

from __future__ import annotations

from torchtop.probe import wire
from torchtop.seen import RankSeen
from torchtop.snapshot import Layer

_MORE = 1.5  # times as often as backward: a GAN's discriminator is called three times for two passes
_VALIDATION = wire.FLAG_NAMES[wire.VALIDATION]


def acts(rank: RankSeen) -> bool:
    """Whether the program calls a model of its own more often than it goes backward; a loss or a transform has no
    parameters and is none. False where layers were not looked into, and where some steps hold a validation: its calls
    are among those of the layers.
    """
    if _VALIDATION in rank.excluded:
        return False
    passes = _MORE * max(rank.micro_steps or 1.0, 1.0)
    roots = [layer.name for layer in rank.layers if is_root(layer) and layer.calls > passes]
    return any(layer.parameters and layer.name.startswith(root) for root in roots for layer in rank.layers)


def is_root(layer: Layer) -> bool:
    """Whether the program calls it itself: by its shown name (DESIGN 10)."""
    return not layer.name or layer.name.endswith(":")
