"""What was changed in the job, the newest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rich.text import Text

from torchtop.tui.arrange import columns
from torchtop.tui.panels.base import Panel
from torchtop.tui.text.glyphs import head
from torchtop.tui.text.grid import flow
from torchtop.tui.text.plain import printable, wrapped
from torchtop.tui.text.units import MISSING, digits
from torchtop.tui.view import View

_TALL = 30  # rows of the screen from which there is more than one entry
_LOW = 1  # lines on a lower one
_KINDS = {"watching": "strong", "kept": "good", "failed": "warn", "refused": "warn"}


class JournalPanel(Panel):
    """What was changed in the job, the newest first."""

    KEY: ClassVar[str] = "7"
    TITLE: ClassVar[str] = "journal"
    LEAST: ClassVar[int] = 2

    def heading(self, view: View) -> str:
        return f"{len(view.snapshot.journal)} entries" if view.snapshot.journal else ""

    def wants(self, view: View) -> int:
        height = view.height if view.height >= _TALL else _LOW
        return 1 + len(self.draw(view._replace(width=columns(view.width)[1], height=height)))

    def draw(self, view: View) -> Sequence[Text]:
        entries = list(reversed(view.snapshot.journal))
        if not entries:
            return [Text(head("nothing was changed in the job", view.width).rstrip(), "quiet")][: view.height]
        blocks = [_entry(entry, view.width) if view.zoomed else [_line(entry, view.width)] for entry in entries]
        lines: list[Text] = []
        for index, block in enumerate(blocks):
            if len(lines) + len(block) + (index < len(blocks) - 1) > view.height > 1:
                lines.append(Text(f"{len(blocks) - index} older entries: no room", "quiet"))
                break
            lines += block
        return lines[: view.height]


def _line(entry: Mapping[str, Any], width: int) -> Text:
    """`3 kept fused-optimizer ×0.92`."""
    now = _text(entry, "state")
    measured = _ratio(entry)
    left = head(f"{_text(entry, 'id')} {now:<8} {_text(entry, 'remedy')}", max(width - len(measured), 1))
    return Text.assemble((left, _KINDS.get(now, "number")), (measured, "strong"))


def _entry(entry: Mapping[str, Any], width: int) -> list[Text]:
    parts = [Text(f"{name} {_text(entry, name)}", "quiet") for name in ("user", "step") if name in entry]
    lines = [_line(entry, width), *(Text.assemble("  ", line) for line in flow(parts, width - 2))]
    if entry.get("reason"):
        lines += [Text(line, "quiet") for line in wrapped("  ", str(entry["reason"]), width)]
    return lines


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    return MISSING if value is None else printable(str(value))


def _ratio(entry: Mapping[str, Any]) -> str:
    """Seconds a sample, after to before, as it was measured; '' before it was."""
    measured = entry.get("measured")
    ratio = measured.get("step_ratio") if isinstance(measured, Mapping) else None
    return f" ×{digits(ratio)}" if isinstance(ratio, (int, float)) else ""
