"""The scan of one rank's weights, put together from the probe's `weights` messages."""

from __future__ import annotations

from typing import Any

from torchtop.modules import ModuleTree
from torchtop.seen import WeightRow, Weights


class WeightScan:
    """What was told last; reason: why there is nothing."""

    def __init__(self) -> None:
        self.found: Weights | None = None
        self.reason: str | None = None
        self._parts: list[dict[str, Any]] = []

    def add(self, message: dict[str, Any]) -> None:
        """Take in one message (see probe/watch/weights.py). Parts come in a row: of one that was cut off nothing is kept."""
        if message.get("reason") is not None:
            self.reason, self._parts = message["reason"], []
            return
        if message["part"] == 0:
            self._parts = []
        if message["part"] != len(self._parts):
            self._parts = []
            return
        self._parts.append(message)
        if len(self._parts) == message["parts"]:
            self.found, self.reason, self._parts = _put_together(self._parts), None, []


def _put_together(parts: list[dict[str, Any]]) -> Weights:
    modules = [row for part in parts for row in part.get("modules", ())]
    rows = [row for part in parts for row in part.get("rows", ())]
    tree = ModuleTree()
    for index, (root, name, kind) in enumerate(modules):
        tree.add(
            {
                "root": root,
                "class": kind if index == root else None,
                "parameters": 1,
                "rows": [[index, root, name, kind, 0, 0, None, False]],
            }
        )
    roots = tree.trained_roots(row[0] for row in rows)
    named = [_row(tree, roots, row) for row in rows if row[0] < len(modules)]
    loose = [_loose(elements, size) for part in parts for elements, size in part.get("loose", ())]
    whole = parts[0]
    return Weights(
        t=whole["t"],
        boundaries=whole["boundaries"],
        rows=(*named, *loose),
        elements=whole["elements"],
        optimized_elements=whole["optimized_elements"],
        left_out=whole["left_out"],
    )


def _row(tree: ModuleTree, roots: tuple[int, ...], row: list[Any]) -> WeightRow:
    at, name, elements, size, trainable, had, channels, channels_looked, channels_zero, *rest = row
    elements_looked, elements_zero, norm, changed = rest
    return WeightRow(
        module=tree.shown_name(at, roots) or "",
        type=tree.modules[at].type,
        # What torch.nn.utils.prune and the like keep a weight as: users know it by its own name.
        name=name.removesuffix("_orig"),
        elements=elements,
        bytes=size,
        trainable=trainable,
        had_gradient=had,
        channels=channels,
        channels_looked=channels_looked,
        channels_near_zero=channels_zero,
        elements_looked=elements_looked,
        elements_near_zero=elements_zero,
        norm=norm,
        changed=changed,
    )


def _loose(elements: int, size: int) -> WeightRow:
    """A parameter of an optimizer, of no module that is called, that never had a gradient."""
    return WeightRow(
        module="", type="", name="", elements=elements, bytes=size, trainable=True, had_gradient=False, called=False
    )
