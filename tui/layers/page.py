"""One layer closely: what it is, what it takes, how that changed, where it is called and what is inside. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.text import Text

from torchtop.snapshot import Frame, Layer, LayerHistory
from torchtop.tui.layers.columns import fit, shape, share
from torchtop.tui.layers.lines import row, sampled, tail_of, titles
from torchtop.tui.layers.times import Measure, alone
from torchtop.tui.layers.tree import label
from torchtop.tui.state import state
from torchtop.tui.text.glyphs import curve, head, tail
from torchtop.tui.text.plain import wrapped
from torchtop.tui.text.units import MISSING, amount, duration, size
from torchtop.tui.view import View, rank_name

COLUMNS, ROWS = 70, 20  # with less room than this the page is better the whole screen
_SPACED = 22  # rows from which sections have a blank line between them
_LABEL = 13  # columns of what a line is about
_ROW_NAME = 13  # columns of the same in the table
_CELL = 9  # columns of a number in the table
_INSIDE = 4  # rows for what is inside, at least
_RANGE = 24  # columns right of a curve


class Subject(NamedTuple):
    """layer: None for a holder; whole: with all inside; elsewhere: the same layer on other ranks; inside: what it
    contains, largest first; chosen: place of the chosen one of these.
    """

    name: str
    layer: Layer | None
    whole: Measure
    elsewhere: Sequence[Layer] = ()
    inside: Sequence[tuple[str, Measure]] = ()
    chosen: int = 0


def page(view: View, subject: Subject) -> list[Text]:
    """At most `view.height` lines of `view.width` columns."""
    spaced = view.height >= _SPACED
    sections = [_what(view, subject), _times(view, subject), _histories(view, subject), _elsewhere(view, subject)]
    least = sum(len(section) for section in sections) + (min(len(subject.inside), _INSIDE) + 1 if subject.inside else 0)
    sections.append(_called_at(view, subject, max(view.height - least - (5 if spaced else 0), 1)))
    lines: list[Text] = []
    for section in sections:
        if section and lines and spaced:
            lines.append(Text())
        lines += section
    if subject.inside:
        lines += [Text()] if spaced else []
        lines += _inside(view, subject, view.height - len(lines))
    return lines[: view.height]


def _what(view: View, subject: Subject) -> list[Text]:
    layer, whole, width = subject.layer, subject.whole, view.width
    kind = layer.type if layer is not None else "holder"
    name = tail_of(subject.name or "(root)", width - cell_len(kind) - 4)
    lines = [Text.assemble((f" {name}", "strong"), (f"  {head(kind, min(cell_len(kind), width // 2))}", "quiet"))]
    if layer is None:
        return lines + _said("", "is never called itself: what is shown are sums of what it holds", width)
    facts = [
        ("output", f"{shape(layer.output_shape)} {layer.dtype or ''}".rstrip()),
        ("calls", f"{amount(layer.calls)} per step"),
        (
            "parameters",
            amount(layer.parameters) + (f", {amount(whole.parameters)} with inside" if subject.inside else ""),
        ),
        ("FLOP/s", MISSING if whole.rate is None else f"{amount(whole.rate)} in forward"),
    ]
    return lines + _pairs(facts, width) + _bound(layer, width)


def _bound(layer: Layer, width: int) -> list[Text]:
    """What its forward is nearest to; nothing where that is not known."""
    if layer.bound_by is None or layer.bound_share is None:
        return []
    if layer.bound_by == "overhead":
        text = f"overhead: {share(layer.bound_share)} of what its work allows"
    else:
        text = f"{layer.bound_by}, at {share(layer.bound_share)} of the peak"
    return [_fact("bound by", f"{text} ({layer.bound_peaks})", width)]


def _pairs(facts: Sequence[tuple[str, str]], width: int) -> list[Text]:
    """Labels and values, two in a line where there is room for both."""
    half = width // 2
    lines: list[Text] = []
    if width >= 2 * (_LABEL + 26):
        for left, right in zip(facts[::2], facts[1::2], strict=True):
            line = _fact(*left, half)
            lines.append(line.append_text(_fact(*right, width - half)))
        return lines
    return [_fact(*fact, width) for fact in facts]


def _fact(name: str, value: str, width: int) -> Text:
    return Text.assemble((f" {name:<{_LABEL - 1}}", "quiet"), (head(value, width - _LABEL), "number"))


def _said(name: str, text: str, width: int) -> list[Text]:
    first = f" {name:<{_LABEL - 1}}" if name else " "
    lines = wrapped(first, text, width)
    return [Text(line, "quiet") for line in lines]


def _times(view: View, subject: Subject) -> list[Text]:
    """A small table: by itself, and with all inside where there is anything."""
    layer, whole = subject.layer, subject.whole
    room = max((view.width - _ROW_NAME) // _CELL, 0)
    names = ("forward", "backward", "together", "of step", "params", "activ.", "FLOPs")[:room]
    lines = [Text(" " * _ROW_NAME + "".join(name.rjust(_CELL) for name in names), "quiet")]
    if layer is not None:
        own = alone(layer)
        lines.append(_numbers("by itself", own, own.self_s, room))
    if layer is None or subject.inside:
        lines.append(_numbers("with inside", whole, whole.total_s, room))
    if whole.recompute_s is not None:
        again = f"{duration(whole.recompute_s)} of forward done again in backward (checkpointing), not in these times"
        lines += _said("recompute", again, view.width)
    return lines + _device(view)


def _numbers(name: str, measure: Measure, both_s: float | None, room: int) -> Text:
    cells = (
        duration(measure.forward_s),
        duration(measure.backward_s),
        duration(both_s),
        share(measure.share),
        size(measure.parameter_bytes),
        size(measure.activation_bytes),
        amount(measure.flops),
    )
    text = "".join(cell.rjust(_CELL) for cell in cells[:room])
    return Text.assemble((f" {name:<{_ROW_NAME - 1}}", "quiet"), (text, "number"))


def _device(view: View) -> list[Text]:
    """Whether the times are those of the device, or only of the host that queues its work."""
    rank = view.shown_rank
    device = rank.device if rank is not None else None
    if device is None:
        return []
    if device == "cpu":
        return _said("device", "cpu: its time is the host's", view.width)
    reason = view.snapshot.steps.phase_reasons.get("forward")
    return _said("device", device + (f": {reason}" if reason else ""), view.width)


def _histories(view: View, subject: Subject) -> list[Text]:
    """Its own forward and backward in each sampled step, up to now."""
    history = view.snapshot.history
    found = history.layer if history is not None else None
    if subject.layer is None:
        return []
    if found is None or found.name != subject.name:
        late = state(view.snapshot).word in ("ended", "stopped")
        why = "was not asked for while the job ran" if late else "comes with the next snapshot"
        return _said("history", why, view.width)
    lines = []
    for name, values in _curves(found):
        width = max(view.width - _LABEL - _RANGE, 1)
        known = [value for value in values[-width:] if value is not None]
        if not known:
            lines += _said(name, f"{MISSING} in none of the last {len(values)} sampled steps", view.width)
            continue
        text = f"{duration(min(known))} to {duration(max(known))}"
        (blocks,) = curve(values, width)
        lines.append(
            Text.assemble((f" {name:<{_LABEL - 1}}", "quiet"), (blocks, name), (head(f" {text}", _RANGE), "number"))
        )
    return lines


def _curves(history: LayerHistory) -> tuple[tuple[str, Sequence[float | None]], ...]:
    return ("forward", history.self_forward_s), ("backward", history.self_backward_s)


def _elsewhere(view: View, subject: Subject) -> list[Text]:
    if not subject.elsewhere:
        return []
    text = ", ".join(
        f"{MISSING if other.rank is None else other.rank}: {duration(alone(other).self_s)}"
        for other in subject.elsewhere
    )
    return _said("other ranks", f"by itself, {text}", view.width)


def _called_at(view: View, subject: Subject, rows: int) -> list[Text]:
    """The frames that called it, innermost first, as many as there are rows for."""
    if subject.layer is None:
        return []
    frames = subject.layer.called_at
    if not frames:
        return _said("called at", f"{MISSING} its first call was not seen", view.width)
    lines = []
    for place, frame in enumerate(frames[:rows]):
        name = "called at" if place == 0 else "from"
        lines.append(_fact(name, _frame(frame, view.width - _LABEL), view.width))
    return lines


def _frame(frame: Frame, width: int) -> str:
    where = f"{frame.file}:{frame.line}"
    function = head(frame.function, min(cell_len(frame.function), width // 2))
    room = width - cell_len(function) - 3
    return f"{function} ({tail(where, min(cell_len(where), room))})"


def _inside(view: View, subject: Subject, rows: int) -> list[Text]:
    """What it contains, largest first."""
    count = len(subject.inside)
    if rows < 2:
        return []
    labels = {name: label(name) for name, _ in subject.inside}
    longest = max(cell_len(text) for text in labels.values())
    room = fit(view.width, longest, ("recompute", "total", "dtype"))
    largest = max((measure.share or 0.0 for _, measure in subject.inside), default=0.0)
    top = min(max(subject.chosen - rows + 2, 0), max(count - rows + 1, 0))
    shown = list(enumerate(subject.inside))[top : top + rows - 1]
    return [
        titles(room, "share", f"inside ({count})"),
        *(
            row(tail(labels[name], room.name), measure, room, largest, place == subject.chosen)
            for place, (name, measure) in shown
        ),
    ]


def heading(view: View) -> str:
    """What stands in the title line above the page."""
    rank = view.shown_rank
    of = f" of {rank_name(rank)}" if rank is not None and len(view.snapshot.job.ranks) > 1 else ""
    return f"one layer{of}, {sampled(view)} sampled steps, esc goes back"
