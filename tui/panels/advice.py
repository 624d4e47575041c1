"""What holds the job back, worst first; one of them is chosen, to be opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.binding import BindingType

from torchtop.snapshot import Finding
from torchtop.tui.arrange import columns
from torchtop.tui.drawing import Pen
from torchtop.tui.keys import ADVICE, bindings
from torchtop.tui.messages import Opened
from torchtop.tui.panels.base import Panel
from torchtop.tui.text.findings import KINDS, MARKS, details, not_judged, waiting
from torchtop.tui.text.glyphs import head
from torchtop.tui.text.plain import printable, wrapped
from torchtop.tui.text.reasons import within
from torchtop.tui.text.units import duration, percent
from torchtop.tui.view import View
from torchtop.tui.watching import Rules

_TALL = 30  # rows of the screen from which the sentences are told
_LOW = 3  # lines on a lower one
_CHOSEN = "▶"
_INDENT = 4  # columns left of a code: chosen or not, how bad, a space
_PER_STEP_FROM = 40  # columns from which there is room for "/step"


class AdvicePanel(Panel):
    """What holds the job back, worst first."""

    KEY: ClassVar[str] = "6"
    TITLE: ClassVar[str] = "advice"
    LEAST: ClassVar[int] = 3
    BINDINGS: ClassVar[list[BindingType]] = bindings(ADVICE)

    def __init__(self, pen: Pen, rules: Rules | None = None) -> None:
        super().__init__(pen)
        self._rules = rules
        self._chosen: str | None = None

    def heading(self, view: View) -> str:
        abstained = len(view.snapshot.abstained)
        return f"{abstained} not judged" if abstained else ""

    def wants(self, view: View) -> int:
        height = view.height if view.height >= _TALL else _LOW
        return 1 + len(self.draw(view._replace(width=columns(view.width)[1], height=height)))

    def draw(self, view: View) -> Sequence[Text]:
        if not view.snapshot.findings:
            lines = [Text(line, "quiet") for line in wrapped("", self._nothing(view), view.width)]
            lines = within(lines, view.height, view.width)
        else:
            lines = self._list(view)
        if view.zoomed and view.snapshot.abstained:
            told = not_judged(view.snapshot.abstained, view.width)
            below = [Text(""), Text("not judged", "title"), *(Text(line, "quiet") for line in told)]
            lines = [*lines, *within(below, view.height - len(lines), view.width)]
        for line in lines:
            line.truncate(view.width, overflow="ellipsis")
        return lines[: view.height]

    def _nothing(self, view: View) -> str:
        """Why there is no finding: it is too early, or all is well."""
        abstained = view.snapshot.abstained
        if not view.snapshot.steps.count:
            return "no step was seen yet: nothing to judge"
        early = waiting(abstained)
        if early is not None:
            return f"watching: {early.seen} of {early.needed} steps seen"
        if self._rules is None:
            return "nothing found"
        judged = len(self._rules) - len(abstained)
        return (
            f"nothing found: all is well in what {judged} rules look at"
            if judged > 0
            else "no rule can judge this job yet"
        )

    def _list(self, view: View) -> list[Text]:
        findings, chosen = view.snapshot.findings, self._place(view)
        heads = [_head(one, view.width, place == chosen) for place, one in enumerate(findings)]
        for below in (_closely, _sentence) if view.zoomed else (_sentence,):
            blocks = [below(one, view.width) for one in findings]
            if len(heads) + sum(len(block) for block in blocks) <= view.height:
                return [line for first, block in zip(heads, blocks, strict=True) for line in (first, *block)]
        # A line of each first: what it is says more than the sentences of the first one alone.
        if len(heads) < view.height:
            spare = within(_sentence(findings[0], view.width), view.height - len(heads), view.width)
            return [heads[0], *spare, *heads[1:]]
        rows = view.height if len(heads) <= view.height else max(view.height - 1, 1)
        top = min(max((chosen or 0) - rows + 1, 0), max(len(heads) - rows, 0))
        lines = heads[top : top + rows]
        if len(lines) < view.height and len(lines) < len(heads):
            hidden = f"{len(heads) - len(lines)} more" + ("" if view.zoomed else " (zoom: 6, 6)")
            lines.append(Text(head(hidden, view.width), "quiet"))
        return lines

    def _place(self, view: View) -> int | None:
        """Of the finding that is chosen; None while the keys go elsewhere."""
        if not self.has_focus:
            return None
        codes = [one.code for one in view.snapshot.findings]
        return codes.index(self._chosen) if self._chosen in codes else 0

    # Keys

    def action_next_finding(self) -> None:
        self._move(1)

    def action_previous_finding(self) -> None:
        self._move(-1)

    def action_open_finding(self) -> None:
        place = self._place(self.view) if self.view is not None else None
        if self.view is not None and place is not None and self.view.snapshot.findings:
            self.post_message(Opened(self.view.snapshot.findings[place]))

    def _move(self, by: int) -> None:
        place = self._place(self.view) if self.view is not None else None
        if self.view is not None and place is not None and self.view.snapshot.findings:
            findings = self.view.snapshot.findings
            self._chosen = findings[min(max(place + by, 0), len(findings) - 1)].code
            self.redraw()


def _head(finding: Finding, width: int, chosen: bool) -> Text:
    """How bad it is, its code, and what a cure could give back."""
    gained = _gain(finding, width)
    left = f"{_CHOSEN if chosen else ' '}{MARKS[finding.severity]} {printable(finding.code)}"
    left = head(left, max(width - cell_len(gained), 1))
    kind = "selected" if chosen else KINDS[finding.severity]
    return Text.assemble((left, kind), (gained, "selected" if chosen else "number"))


def _sentence(finding: Finding, width: int) -> list[Text]:
    return [Text(line, "quiet") for line in wrapped(" " * _INDENT, finding.summary, width)]


def _closely(finding: Finding, width: int) -> list[Text]:
    return [Text(line.text, "quiet") for line in details(finding, width, _INDENT)]


def _gain(finding: Finding, width: int) -> str:
    if finding.recoverable_s is not None:
        return f" {duration(finding.recoverable_s)}" + ("/step" if width >= _PER_STEP_FROM else "")
    return f" {percent(finding.share)}" if finding.share is not None else ""
