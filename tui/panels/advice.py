"""What holds the job back, worst first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text

from torchtop.snapshot import Finding
from torchtop.tui.arrange import columns
from torchtop.tui.panels.base import Panel
from torchtop.tui.text.glyphs import head, wrapped
from torchtop.tui.text.reasons import within
from torchtop.tui.text.units import duration
from torchtop.tui.view import View

_TALL = 30  # rows of the screen from which the sentences are told
_LOW = 2  # lines on a lower one
_MARKS = {"critical": "!!", "warn": "! ", "info": "  "}
_KINDS = {"critical": "critical", "warn": "warn", "info": "number"}


class AdvicePanel(Panel):
    """What holds the job back, worst first."""

    KEY: ClassVar[str] = "6"
    TITLE: ClassVar[str] = "advice"
    LEAST: ClassVar[int] = 3

    def heading(self, view: View) -> str:
        abstained = len(view.snapshot.abstained)
        return f"{abstained} not judged" if abstained else ""

    def wants(self, view: View) -> int:
        height = view.height if view.height >= _TALL else _LOW
        return 1 + len(self.draw(view._replace(width=columns(view.width)[1], height=height)))

    def draw(self, view: View) -> Sequence[Text]:
        findings, abstained = view.snapshot.findings, view.snapshot.abstained
        if not findings and not abstained:
            text = "no rules in this version yet"
            return [Text(line, "quiet") for line in wrapped("", text, view.width)][: view.height]
        lines = [] if findings else [Text("nothing found", "quiet")]
        told = [_finding(finding, view.width) for finding in findings]
        # A line of each first: what it is says more than the sentences of the first one alone.
        in_full = sum(len(block) for block in told) <= view.height
        for index, block in enumerate(told):
            if not in_full and index == view.height - 1 and index < len(told) - 1:
                lines.append(Text(head(f"{len(told) - index} more (zoom: 6, 6)", view.width), "quiet"))
                break
            lines += block if in_full else block[:1]
        if view.zoomed:
            lines += within(_closely(view), view.height - len(lines), view.width)
        return lines[: view.height]


def _finding(finding: Finding, width: int) -> list[Text]:
    gain = f" {duration(finding.recoverable_s)}/step" if finding.recoverable_s is not None else ""
    kind = _KINDS[finding.severity]
    code = head(finding.code, width - 3 - len(gain))
    first = Text.assemble((f"{_MARKS[finding.severity]} {code}", kind), (gain, "number"))
    return [first, *(Text(line, "quiet") for line in wrapped("   ", finding.summary, width))]


def _closely(view: View) -> list[Text]:
    """The numbers of the findings, and which rules could not be judged."""
    lines: list[str] = []
    for finding in view.snapshot.findings:
        numbers = ", ".join(f"{one.name} {one.value:.3g} {one.unit}".rstrip() for one in finding.evidence)
        remedies = f"; may be cured by {', '.join(finding.remedies)}" if finding.remedies else ""
        lines += wrapped(f"{finding.code}: ", f"{numbers} ({finding.confidence} confidence){remedies}", view.width)
    for one in view.snapshot.abstained:
        lines += wrapped(f"not judged: {one.code} ", one.reason, view.width)
    return [Text(line, "quiet") for line in lines]
