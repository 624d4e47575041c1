"""Where a finding is: the rank, and the user's line."""

from __future__ import annotations

from collections.abc import Sequence

from torchtop.advisor.lines import Line
from torchtop.seen import RankSeen
from torchtop.snapshot import Layer

_NAMED = 8  # layers that a finding lists


def of(rank: RankSeen, line: Line | str | None = None) -> dict[str, object]:
    """The rank, and the line that was found, or why there is none."""
    where: dict[str, object] = {"rank": rank.rank, "pid": rank.pid}
    if isinstance(line, Line):
        return where | line.where
    return where if line is None else where | {"line_missing": line}


def of_layer(layer: Layer) -> dict[str, object]:
    """A layer's name and class, and the line that calls it, where that was seen."""
    where: dict[str, object] = {"layer": layer.name, "type": layer.type}
    if layer.called_at:
        where |= {"file": layer.called_at[0].file, "line": layer.called_at[0].line}
    return where


def of_layers(names: Sequence[str]) -> dict[str, object]:
    """One or more layers, the worst first: no more than can be read."""
    return {"layer": names[0], "layers": list(names[:_NAMED]), "layers_left_out": max(len(names) - _NAMED, 0)}


def in_words(line: Line | str) -> str:
    """`, at train.py:12 (log)`; nothing where no line was found."""
    if isinstance(line, str):
        return ""
    file = line.frame.file.replace("\\", "/").rpartition("/")[2]
    return f", at {file}:{line.frame.line} ({line.frame.function})"
