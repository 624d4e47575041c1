"""The processes of the job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from rich.text import Text

from torchtop.snapshot import Distribution, Rank
from torchtop.tui.arrange import columns
from torchtop.tui.panels.base import Panel
from torchtop.tui.place import places
from torchtop.tui.state import STOPPED, elsewhere
from torchtop.tui.text.glyphs import head
from torchtop.tui.text.grid import flow, named
from torchtop.tui.text.plain import wrapped
from torchtop.tui.text.reasons import within
from torchtop.tui.text.units import MISSING, amount, digits, duration, percent, size
from torchtop.tui.view import View, rank_name

_TALL = 30  # rows of the screen from which reasons are told
_LOW = 9  # lines on a lower one
_FRAMES = 6  # of a stack, innermost first
_LEAST_WITH_HEADER = 2  # lines: where there are no more, two ranks say more than a header and one


class _Column(NamedTuple):
    """width: columns of the terminal, the space before it included; from_width: of the panel from which it is shown."""

    title: str
    width: int
    from_width: int


_COLUMNS = (
    _Column("pid", 8, 0),
    _Column("step", 8, 0),
    _Column("slower", 9, 0),
    _Column("cores", 6, 40),
    _Column("RSS", 9, 45),
    _Column("samples/s", 10, 60),
    _Column("device", 7, 70),
    _Column("workers", 8, 76),
)
_MARKS = 5  # columns: looked at or not, and the number of the rank


class RanksPanel(Panel):
    """The processes of the job."""

    KEY: ClassVar[str] = "5"
    TITLE: ClassVar[str] = "ranks"
    LEAST: ClassVar[int] = 3

    def heading(self, view: View) -> str:
        slowest = _slowest(view)
        return f"{rank_name(slowest)} slowest" if slowest is not None else ""

    def wants(self, view: View) -> int:
        height = view.height if view.height >= _TALL else _LOW
        return 1 + len(self.draw(view._replace(width=columns(view.width)[1], height=height)))

    def draw(self, view: View) -> Sequence[Text]:
        ranks = view.snapshot.job.ranks
        if not ranks:
            return [Text("no process is left here", "quiet")]
        lines = [_header(view.width)] if len(ranks) < view.height or view.height > _LEAST_WITH_HEADER else []
        shown = _chosen(view, view.height - len(lines))
        lines += [_row(view, rank) for rank in shown]
        if len(shown) < len(ranks):
            lines.append(Text(head(f"{len(ranks) - len(shown)} more (zoom: 5, 5)", view.width), "quiet"))
        lines += _elsewhere(view)
        lines += within(_reasons(view), view.height - len(lines), view.width)
        if view.zoomed:
            lines += _closely(view, view.height - len(lines))
        return lines[: view.height]


def _header(width: int) -> Text:
    titles = "".join(f"{column.title:>{column.width}}" for column in _COLUMNS if column.from_width <= width)
    return Text("  rank"[: _MARKS + 1].ljust(_MARKS + 1) + titles[1:], "quiet")


def _row(view: View, rank: Rank) -> Text:
    """One process. In place of a step time: what it is instead of attached."""
    steps = _steps(view, rank)
    looked_at = view.shown_rank is not None and view.shown_rank.pid == rank.pid and len(view.snapshot.job.ranks) > 1
    slowest = _slowest(view)
    number = MISSING if rank.rank is None else str(rank.rank)
    line = Text.assemble(("▸ " if looked_at else "  ", "cap"), (f"{number:<{_MARKS - 2}}", "strong"))
    used = _cores(rank)
    values = {
        "pid": str(rank.pid),
        "step": duration(steps.median_s) if steps is not None else MISSING,
        "slower": _slower_text(view, steps),
        "cores": MISSING if used is None else digits(used),
        "RSS": size(rank.rss_bytes),
        "samples/s": amount(steps.samples_per_s) if steps is not None else MISSING,
        "device": rank.device or MISSING,
        "workers": MISSING if rank.workers is None else str(rank.workers),
    }
    instead = _instead(rank)
    kind = "strong" if slowest is not None and slowest.pid == rank.pid else "number"
    for column in _COLUMNS:
        if column.from_width > view.width:
            continue
        if instead and column.title == "step":
            line.append(f"{instead:>{column.width + _COLUMNS[2].width}}", "warn")
        elif not (instead and column.title == "slower"):
            line.append(f" {head(values[column.title], column.width - 1).strip():>{column.width - 1}}", kind)
    return line


def _instead(rank: Rank) -> str:
    """What a process is instead of attached and running, '' if it is both."""
    if rank.state != "attached":
        return rank.stage or rank.state
    return "stopped" if (rank.process_state or "") in STOPPED else ""


def _chosen(view: View, room: int) -> list[Rank]:
    """The ranks there is room for: first the one looked at, the slowest and those not attached; in their order."""
    ranks = view.snapshot.job.ranks
    if len(ranks) <= room:
        return list(ranks)
    of_note = {rank.pid for rank in (view.shown_rank, view.slowest) if rank is not None}
    order = sorted(ranks, key=lambda rank: (rank.pid not in of_note, not _instead(rank)))
    pids = {rank.pid for rank in order[: max(room - 1, 0)]}
    return [rank for rank in ranks if rank.pid in pids]


def _steps(view: View, rank: Rank) -> Distribution | None:
    return next((one for one in view.snapshot.steps.by_rank if one.pid == rank.pid), None)


def _slowest(view: View) -> Distribution | None:
    """The rank that the others wait for, if mean and median name the same one: else none stands out."""
    by_rank = view.snapshot.steps.by_rank
    if len(by_rank) < 2 or view.slowest is None:
        return None
    return view.slowest if view.slowest is max(by_rank, key=lambda one: one.median_s or 0.0) else None


def _slower(view: View, steps: Distribution | None) -> float | None:
    """By which share the median step is longer than that of the fastest rank; None for a job of one."""
    medians = [one.median_s for one in view.snapshot.steps.by_rank if one.median_s]
    if len(medians) < 2 or steps is None or not steps.median_s:
        return None
    return steps.median_s / min(medians) - 1.0


def _slower_text(view: View, steps: Distribution | None) -> str:
    share = _slower(view, steps)
    return "" if share is None else f"+{percent(share)}" if share else "fastest"


def _cores(rank: Rank) -> float | None:
    known = [value for value in (rank.cpu_share, rank.workers_cpu_share) if value is not None]
    return sum(known) if known else None


def _elsewhere(view: View) -> list[Text]:
    """Ranks that are not on this machine, or not in the snapshot."""
    job = view.snapshot.job
    lines = [f"{job.ranks_left_out} more here, not asked for"] if job.ranks_left_out else []
    away = elsewhere(job)
    if away is not None:
        lines += wrapped("", away, view.width)
    return [Text(line, "warn") for line in lines]


def _reasons(view: View) -> list[Text]:
    """Why ranks are not attached: each reason once, with the ranks that it is of."""
    found: dict[str, list[str]] = {}
    for rank in view.snapshot.job.ranks:
        if rank.reason:
            found.setdefault(rank.reason, []).append(str(rank.pid if rank.rank is None else rank.rank))
    lines: list[str] = []
    for reason, names in found.items():
        lines += wrapped("", f"{', '.join(names)}: {reason}", view.width)
    return [Text(line, "quiet") for line in lines]


def _closely(view: View, room: int) -> list[Text]:
    """How each was attached to, its versions, and where its main thread was; first the one that is looked at."""
    lines: list[Text] = []
    looked_at = view.shown_rank
    ranks = sorted(view.snapshot.job.ranks, key=lambda rank: looked_at is None or rank.pid != looked_at.pid)
    for index, rank in enumerate(ranks):
        block = _details(view, rank)
        if len(lines) + len(block) + (index < len(ranks) - 1) > room:
            return [*lines, Text(f"{len(ranks) - index} more: no room, [ and ] choose one", "quiet")]
        lines += block
    return lines


def _details(view: View, rank: Rank) -> list[Text]:
    attach = rank.attach
    parts = [Text(rank_name(rank), "strong")]
    if attach is not None:
        parts.append(named("by", attach.method))
        parts.append(named("hello after", duration(attach.hello_s)))
        parts.append(named("paused for", duration(attach.pause_s)))
    else:
        parts.append(Text("no probe", "quiet"))
    parts += [
        named("python", rank.python or MISSING),
        named("torch", rank.torch or MISSING),
        named("threads", MISSING if rank.threads is None else str(rank.threads)),
        named("descheduled", f"{amount(rank.involuntary_switches_per_s)}/s"),
        named("read", f"{size(rank.read_bytes_per_s)}/s"),
    ]
    return [Text(), *flow(parts, view.width), *_where(view, rank)]


def _where(view: View, rank: Rank) -> list[Text]:
    """The innermost frames of its main thread."""
    stack = list(places(view.snapshot, rank.pid))
    if not stack:
        where = f"{MISSING} no stack was read yet"
    else:
        more = [f"{len(stack) - _FRAMES} more"] if len(stack) > _FRAMES else []
        where = " < ".join([*stack[:_FRAMES], *more])
    return [Text(line, "quiet") for line in wrapped("main thread in ", where, view.width)]
