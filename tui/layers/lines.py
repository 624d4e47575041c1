"""The layers as lines: the columns' titles, one line for each row, and why numbers are missing. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from torchtop.snapshot import Layer
from torchtop.tui.layers.columns import BY_MODEL, GUTTER, Column, Fit
from torchtop.tui.layers.times import Measure
from torchtop.tui.layers.tree import label
from torchtop.tui.text.glyphs import bar, head, tail
from torchtop.tui.text.plain import wrapped
from torchtop.tui.view import View, rank_name

CHOSEN = "▶"
SORTED = "▼"
AGAIN = "*"  # after the name of a module whose forward is done again in backward, where its column does not fit


def titles(fit: Fit, sort: str, name: str = "name") -> Text:
    """The line above the rows. sort: id of the column that is marked; name: title of the first column."""
    line = Text.assemble(_mark(sort == BY_MODEL), (head(name, fit.name), _kind(sort == BY_MODEL)))
    for column in fit.columns:
        chosen = column.id == sort
        if column.id == "share":
            line.append(" " * fit.bar)
        mark = SORTED if chosen else " "
        text = mark + column.title.ljust(column.width - 1) if column.left else (mark + column.title).rjust(column.width)
        line.append(text, _kind(chosen))
    return line


def row(name: str, measure: Measure, fit: Fit, largest: float, chosen: bool) -> Text:
    """One module. name: in the columns that it has; largest: share of the longest bar."""
    left, block, right = (CHOSEN if chosen else " ") + name, "", ""
    for column in fit.columns:
        if column.id == "share":
            block = " " + bar(measure.share / largest if measure.share is not None and largest else None, fit.bar - 1)
        if block:
            right += _cell(column, measure)
        else:
            left += _cell(column, measure)
    if chosen:
        return Text(left + block + right, "selected")
    return Text.assemble((left, "number"), (block, "bar"), (right, "number"))


def branch(name: str, depth: int, unfolded: bool | None, note: str, width: int) -> str:
    """A row's name in the tree: indented, with a mark for what can be folded. note: '' or what is said after it."""
    step = 2 if width >= 30 else 1
    indent = " " * min(step * depth, width // 2)
    mark = {None: " ", True: "▾", False: "▸"}[unfolded]
    start = f"{indent}{mark}"
    return start + head(tail_of(label(name), width - len(start) - len(note)) + note, width - len(start))


def tail_of(text: str, width: int) -> str:
    """`text` in at most `width` columns, the end of it."""
    return tail(text, width).rstrip()


def sentence(text: str, width: int, kind: str = "quiet") -> list[Text]:
    """Text folded at `width`."""
    return [Text(line, kind) for line in wrapped(" ", text, width)]


def sampled(view: View) -> int:
    """Steps that the numbers are means of: those of the rank that is looked at."""
    rank, steps = view.shown_rank, view.snapshot.steps
    return next((one.sampled for one in steps.by_rank if rank is not None and one.pid == rank.pid), steps.sampled)


def why_none(view: View) -> str:
    """Why there is no layer to show, and what would change that."""
    snapshot, rank = view.snapshot, view.shown_rank
    if snapshot.layers and rank is not None:
        return f"the layers of {rank_name(rank)} come with the next snapshot"
    if snapshot.steps.compiled:
        return "the model is compiled: modules inside it cannot be timed without changing it"
    if snapshot.health.probe is None:
        reasons = [one.reason for one in snapshot.job.ranks if one.reason]
        return "no probe in the job, so its modules are not seen" + (f": {reasons[0]}" if reasons else "")
    if not snapshot.steps.count:
        return "no step has been seen yet; layers are timed in sampled steps"
    every = snapshot.health.probe.every
    often = f" (now 1 step in {every})" if every else ""
    return f"no step has been sampled yet; layers are timed in sampled steps{often}"


def why_untimed(view: View, layers: Sequence[Layer]) -> str | None:
    """Why no layer has a time although there are layers; None where one has."""
    if any(layer.forward_s is not None or layer.backward_s is not None for layer in layers):
        return None
    return view.snapshot.steps.phase_reasons.get("forward") or "no sampled step ran a module"


def _cell(column: Column, measure: Measure) -> str:
    text = column.text(measure)
    return " " + head(text, column.width - 1) if column.left else text.rjust(column.width)


def _mark(chosen: bool) -> tuple[str, str]:
    return (SORTED if chosen else " ") * GUTTER, _kind(chosen)


def _kind(chosen: bool) -> str:
    return "strong" if chosen else "quiet"
