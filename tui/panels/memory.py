"""What memory is made of, and how much is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text

from torchtop.snapshot import Memory
from torchtop.tui.arrange import columns
from torchtop.tui.headroom import Headroom, headroom
from torchtop.tui.panels.base import Panel
from torchtop.tui.text.glyphs import bar, curve
from torchtop.tui.text.grid import flow, named
from torchtop.tui.text.plain import wrapped
from torchtop.tui.text.reasons import reasons, within
from torchtop.tui.text.stacked import Part, stacked
from torchtop.tui.text.units import MISSING, percent, size
from torchtop.tui.view import View, rank_name

_TALL = 30  # rows of the screen from which peak, limit and reasons are told
_LOW = 6  # lines on a lower one
_FILLS = (
    ("parameters", "P", "█"),
    ("gradients", "G", "▓"),
    ("optimizer", "O", "="),
    ("activations", "A", "▒"),
    ("other", "·", "·"),
)
_ROW = 30  # columns of "P parameters  3.34 MiB 0.797 %"


class MemoryPanel(Panel):
    """What memory is made of, and how much is left."""

    KEY: ClassVar[str] = "4"
    TITLE: ClassVar[str] = "memory"
    LEAST: ClassVar[int] = 4

    def heading(self, view: View) -> str:
        slowest = view.slowest
        several = len(view.snapshot.steps.by_rank) > 1
        return rank_name(slowest) if several and slowest is not None else ""

    def wants(self, view: View) -> int:
        height = view.height if view.height >= _TALL else _LOW
        return 1 + len(self.draw(view._replace(width=columns(view.width)[1], height=height)))

    def draw(self, view: View) -> Sequence[Text]:
        memory, left = view.snapshot.memory, _left(view)
        parts = _parts(memory)
        first = [_free(left, view.width)]
        if view.zoomed and left is not None:
            first.append(Text(bar(left.used_share, view.width), _kind(left) or "bar"))
        if memory.used_bytes and any(part.value for part in parts):
            first.append(stacked(parts, memory.used_bytes, view.width))
        room = view.height - len(first)
        if not any(part.value is not None for part in parts):
            return [*first, *within([*_notes(view), *_totals(memory, left, view.width)], room, view.width)]
        lines = [*first, *_fitting(_table(memory, parts, view), parts, room)]
        for block in (_totals(memory, left, view.width), _history(view), _notes(view)):
            if len(lines) + len(block) <= view.height:
                lines += block
        return lines[: view.height]


def _left(view: View) -> Headroom | None:
    slowest = view.slowest
    ranks = view.snapshot.job.ranks
    pid = slowest.pid if slowest is not None else ranks[0].pid if ranks else None
    return headroom(view.snapshot, next((rank for rank in ranks if rank.pid == pid), None))


def _kind(left: Headroom | None) -> str:
    return {"!": "warn", "!!": "critical"}.get(left.mark if left is not None else "", "")


def _free(left: Headroom | None, width: int) -> Text:
    """`free 164 MiB of 4.00 GiB !`, and whose limit that is where there is room."""
    if left is None:
        return Text(f"free {MISSING}", "quiet")
    kind = _kind(left)
    line = Text.assemble(("free ", "quiet"), (size(left.free), kind or "strong"), (f" of {size(left.limit)}", "quiet"))
    for text, style in ((f" {left.mark}" if left.mark else "", kind), (f"  {left.whose}", "quiet")):
        if line.cell_len + len(text) <= width:
            line.append(text, style or "quiet")
    return line


def _parts(memory: Memory) -> list[Part]:
    return [Part(name, letter, fill, name, getattr(memory, f"{name}_bytes")) for name, letter, fill in _FILLS]


def _table(memory: Memory, parts: Sequence[Part], view: View) -> list[Text]:
    """A line for each part: its size and its share of what is in use."""
    lines = []
    for part in parts:
        share = part.value / memory.used_bytes if part.value is not None and memory.used_bytes else None
        line = Text.assemble((part.letter, part.kind), (f" {part.name:<11}", "quiet"))
        line.append(f"{size(part.value):>9}{percent(share):>8}", "quiet" if part.value is None else "number")
        room = view.width - _ROW - 1
        if room > 4 and share is not None:
            line.append(" ").append(bar(share, room).rstrip(), part.kind)
        lines.append(line)
    return lines


def _fitting(lines: Sequence[Text], parts: Sequence[Part], room: int) -> list[Text]:
    """As many lines as there is room for: those of the largest parts, in their order."""
    order = sorted(range(len(parts)), key=lambda index: -(parts[index].value or -1.0))
    chosen = set(order[: max(room, 0)])
    return [line for index, line in enumerate(lines) if index in chosen]


def _totals(memory: Memory, left: Headroom | None, width: int) -> list[Text]:
    parts = [("in use", memory.used_bytes), ("peak", memory.peak_bytes)]
    if memory.reserved_bytes is not None:
        parts.append(("reserved", memory.reserved_bytes))
    if left is None or left.limit != memory.limit_bytes:
        parts.append(("limit", memory.limit_bytes))
    return flow([named(name, f"{size(count):>8}") for name, count in parts], width)


def _history(view: View) -> list[Text]:
    history = view.snapshot.history
    if not view.zoomed or history is None or not history.rss_bytes:
        return []
    return [Text("resident memory of its process", "quiet"), *_rss(history.rss_bytes, view.width)]


def _rss(values: Sequence[int | None], width: int) -> list[Text]:
    return [Text(line, "bar") for line in curve(values, width, 3)]


def _notes(view: View) -> list[Text]:
    """What is missing, and why; how much the cgroup uses in all."""
    memory = view.snapshot.memory
    missing = [
        (field.removesuffix("_bytes"), reason)
        for field in Memory.__struct_fields__
        if (reason := memory.reasons.get(field))
        and getattr(memory, field) is None
        and (view.zoomed or field != "reserved_bytes")
    ]
    lines = []
    groups = {(rank.cgroup_memory_bytes, rank.cgroup_memory_limit_bytes) for rank in view.snapshot.job.ranks}
    for used, limit in groups:
        if view.zoomed and used is not None:
            most = f"of {size(limit)}" if limit is not None else "no limit"
            lines += wrapped("cgroup: ", f"{size(used)} with its file cache, {most}", view.width)
    return [*reasons(missing, view.width), *(Text(line, "quiet") for line in lines)]
