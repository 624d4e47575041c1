"""Step time, its phases, throughput and loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from rich.cells import cell_len
from rich.text import Text

from torchtop.snapshot import Phases, Steps
from torchtop.tui.arrange import columns
from torchtop.tui.panels.base import Panel
from torchtop.tui.place import places
from torchtop.tui.state import state
from torchtop.tui.text import scale
from torchtop.tui.text.glyphs import bar, curve, head
from torchtop.tui.text.grid import Cell, grid, per_row, rows
from torchtop.tui.text.plain import wrapped
from torchtop.tui.text.reasons import reasons, within
from torchtop.tui.text.stacked import Part, stacked
from torchtop.tui.text.units import MISSING, amount, digits, duration, percent
from torchtop.tui.view import View, rank_name

_FILLS = (
    ("data", "D", "▒"),
    ("transfer", "T", "-"),
    ("forward", "F", "█"),
    ("backward", "B", "▓"),
    ("optimizer", "O", "="),
    ("communication", "C", "~"),
    ("other", "·", "·"),
)
_SHARE_ONLY, _SHARE_AND_TIME = 23, 32  # columns of a phase in the legend
_AXIS = 8  # columns at the right of the curve: " 150 ms"
_LABELS = {"samples_per_s": "samples/s", "batch_size": "batch"}  # field -> what its cell says
_TALL = 30  # rows of the screen from which the panel takes more than what it must have
_CURVE, _ZOOMED_CURVE = 5, 10  # rows at most


class _Seen(NamedTuple):
    """Phases, by the device's clock or, where that is not known, by the host's."""

    phases: Phases
    by_host: bool


class StepsPanel(Panel):
    """Step time, its phases, throughput and loss."""

    KEY: ClassVar[str] = "2"
    TITLE: ClassVar[str] = "steps"
    LEAST: ClassVar[int] = 7

    def heading(self, view: View) -> str:
        total = view.snapshot.steps.total
        return f"{total:,} steps since attach" if total is not None else ""

    def wants(self, view: View) -> int:
        steps, (width, _) = view.snapshot.steps, columns(view.width)
        if not steps.count:
            return 1 + len(_no_steps(view._replace(width=width)))
        tall = view.height >= _TALL
        curve_rows = min(max(1, (view.height - 12) // 8), _CURVE)
        numbers = len(grid(_cells(steps), width)) if tall else 2
        notes = len(_notes(steps, width)) if tall else 0
        return 1 + len(_alerts(steps)) + curve_rows + numbers + 2 + len(_legend(steps, width)) + notes

    def draw(self, view: View) -> Sequence[Text]:
        steps = view.snapshot.steps
        if not steps.count:
            return within(_no_steps(view), view.height, view.width)
        alerts, numbers = _alerts(steps), grid(_cells(steps), view.width)
        phases = [_largest(view), _bar(steps, view.width)]
        legend = _table(steps, view.width) if view.zoomed else _legend(steps, view.width)
        notes = _notes(steps, view.width)
        if view.zoomed:
            notes += [Text("jitter: by how much the 95th percentile is above the median", "quiet")]
        room = view.height - len(alerts) - len(phases) - 1
        taken = []
        for block in (numbers[:2], legend, numbers[2:], notes):
            taken.append(block if len(block) <= room else [])
            room -= len(taken[-1])
        curve_rows = min(1 + room, _ZOOMED_CURVE if view.zoomed else _CURVE)
        first, below, more, why = taken
        lines = [*alerts, *_curve(view, curve_rows), *first, *more, *phases, *below, *why]
        return lines[: view.height]


def _no_steps(view: View) -> list[Text]:
    """Why there is nothing to show, and where the job is instead."""
    steps, now = view.snapshot.steps, state(view.snapshot)
    since = f"{steps.total:,} since attach" if steps.total else "none since attach"
    if steps.count is None:
        what = "steps, phases and loss are not seen from outside" if now.word == "outside" else now.word
        text = f"{what}: {now.text}" if now.text else what
    else:
        text = f"no step has ended in the last {duration(view.snapshot.window_s)}, {since}"
    lines = [Text(line, "quiet") for line in wrapped("", text, view.width)]
    rank = view.shown_rank or next(iter(view.snapshot.job.ranks), None)
    where = next(places(view.snapshot, rank.pid if rank is not None else None), None)
    if where is not None and steps.count is not None:
        lines += [Text(line) for line in wrapped("main thread: ", where, view.width)]
    return lines


def _alerts(steps: Steps) -> list[Text]:
    return [Text("!! the loss is not finite", "critical")] if steps.loss_finite is False else []


def _cells(steps: Steps) -> list[Cell]:
    median, p95 = steps.median_s, steps.p95_s
    jitter = (p95 - median) / median if median and p95 is not None else None
    loss = Cell("loss", MISSING if steps.loss is None else digits(steps.loss))
    if steps.loss_finite is False:
        loss = Cell("loss", "not finite", "critical")
    cells = [
        Cell("median", duration(median), "strong"),
        Cell("p95", duration(p95)),
        Cell("jitter", percent(jitter)),
        Cell("samples/s", amount(steps.samples_per_s)),
        *([Cell("tokens/s", amount(steps.tokens_per_s))] if steps.tokens_per_s is not None else []),
        loss,
        Cell("mean", duration(steps.mean_s)),
        Cell("batch", amount(steps.batch_size)),
    ]
    if steps.micro_steps is not None and steps.micro_steps > 1:
        cells.append(Cell("micro", f"{amount(steps.micro_steps)}×{amount(steps.micro_batch_size)}"))
    return cells


def _curve(view: View, height: int) -> list[Text]:
    """Step times, the newest at the right, with the numbers of the scale beside them."""
    history = view.snapshot.history
    times = history.step_s if history is not None else ()
    width = view.width - _AXIS
    top = scale.top(times[-width:])
    if height < 1 or top is None:
        return []
    lines = [Text(line, "bar") for line in curve(times, width, height, top)]
    lines[0].append(f"{duration(top):>{_AXIS}}", "quiet")
    if height > 1:
        lines[-1].append(f"{'0':>{_AXIS}}", "quiet")
    higher = sum(1 for value in times[-width:] if value > top)
    if higher and height > 2:
        lines[1].append(f"{f'{higher} above':>{_AXIS}}", "quiet")
    return lines


def _seen(steps: Steps) -> _Seen | None:
    if steps.phases_s is not None:
        return _Seen(steps.phases_s, False)
    return _Seen(steps.host_phases_s, True) if steps.host_phases_s is not None else None


def _parts(steps: Steps) -> list[Part]:
    seen = _seen(steps)
    return [
        Part(name, letter, fill, name, getattr(seen.phases, name) if seen is not None else None)
        for name, letter, fill in _FILLS
    ]


def _top_part(steps: Steps) -> Part | None:
    return max((part for part in _parts(steps) if part.value), key=lambda part: part.value or 0.0, default=None)


def _largest(view: View) -> Text:
    """What a step goes by with, above all, and of which steps that is known."""
    steps = view.snapshot.steps
    largest, whole = _top_part(steps), steps.sampled_mean_s
    if largest is None or largest.value is None or not whole:
        return Text(head(f"phases {MISSING} no step was sampled yet", view.width), "quiet")
    line = Text.assemble(("largest: ", "quiet"), (f"{largest.name} {percent(largest.value / whole)}", "strong"))
    rest = f" of {duration(whole)}"
    seen = _seen(steps)
    words = ["host's clock"] if seen is not None and seen.by_host else []
    slowest = view.slowest
    if len(steps.by_rank) > 1 and slowest is not None:
        words.append(rank_name(slowest))
    words.append("all steps" if steps.compiled and not steps.sampled else f"{steps.sampled} sampled")
    for word in words:
        if line.cell_len + cell_len(rest) + 2 + cell_len(word) <= view.width:
            rest += f"  {word}"
    return line.append(rest, "quiet")


def _bar(steps: Steps, width: int) -> Text:
    return stacked(_parts(steps), steps.sampled_mean_s or 0.0, width)


def _legend(steps: Steps, width: int) -> list[Text]:
    """Each phase with its share, and its time where there is room for it."""
    each = _SHARE_AND_TIME if per_row(width, _SHARE_AND_TIME) > 1 else _SHARE_ONLY
    texts = []
    for part, share in _shares(steps):
        time = "" if part.value is None or each == _SHARE_ONLY else f"{duration(part.value):>9}"
        text = f" {part.name:<13}{percent(share):>8}{time}"
        texts.append(Text.assemble((part.letter, part.kind), (text.ljust(each - 1), _kind(part, steps))))
    return rows(texts, width, each)


def _table(steps: Steps, width: int) -> list[Text]:
    """A line for each phase: share as a bar and a number, time, and the host's time where that is another."""
    host = steps.host_phases_s if steps.phases_s is not None else None
    found = [Text(f"{'':<15}{'':<{width // 3}}{'share':>9}{'time':>10}{'on host' if host else '':>10}", "quiet")]
    for part, share in _shares(steps):
        kind = _kind(part, steps)
        line = Text.assemble((part.letter, part.kind), (f" {part.name:<13}", kind), (bar(share, width // 3), part.kind))
        on_host = f"{duration(getattr(host, part.name)):>10}" if host is not None else ""
        found.append(line.append(f"{percent(share):>9}{duration(part.value):>10}{on_host}", kind))
    return found


def _kind(part: Part, steps: Steps) -> str:
    """The largest stands out, the missing ones step back."""
    if part.value is None:
        return "quiet"
    largest = _top_part(steps)
    return "strong" if largest is not None and part.name == largest.name else "number"


def _shares(steps: Steps) -> list[tuple[Part, float | None]]:
    whole = steps.sampled_mean_s
    return [(part, part.value / whole if part.value is not None and whole else None) for part in _parts(steps)]


def _notes(steps: Steps, width: int) -> list[Text]:
    """What is missing, and why."""
    missing = list(steps.phase_reasons.items())
    if len(missing) == len(_FILLS) and len(set(steps.phase_reasons.values())) == 1:
        missing = [("phases", missing[0][1])]
    missing += [(_LABELS.get(field, field), reason) for field, reason in steps.reasons.items()]
    if steps.loss is None and steps.loss_finite is not False:
        missing.append(("loss", "no sampled step told one"))
    lines = []
    if steps.excluded:
        why = ", ".join(f"{number} {reason}" for reason, number in steps.excluded.items())
        lines += wrapped("", f"not in median and mean: {why}", width)
    return [*reasons(missing, width), *(Text(line, "quiet") for line in lines)]
