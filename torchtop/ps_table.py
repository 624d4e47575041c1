"""The job list as text: one block for a job, one line for a rank. Readable at 80 columns, without colour, and piped."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from torchtop.ps import JobRow, RankRow
from torchtop.tui.units import MISSING, size

_AGES = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"), (1.0, "s"))
_COLUMNS = (("PID", 7), ("RANK", 5), ("USER", 8), ("AGE", 4), ("CPU", 5), ("RSS", 8), ("GPU", 8))


def show(jobs: Iterable[JobRow]) -> None:
    """Print to stdout. Words are folded, never cut: the list may be read by a program."""
    console = Console(highlight=False)
    heads = _grid()
    heads.add_row(*(name for name, _ in _COLUMNS), "ATTACH")
    console.print(heads)
    for job in jobs:
        _print(console, _title(job))
        for rank in job.ranks:
            row = _grid()
            row.add_row(*_cells(job, rank), "yes" if rank.attachable else "no")
            console.print(row)
            if rank.why is not None:
                why = f"{rank.why}: {rank.fix}" if rank.fix else rank.why
                _print(console, f"          {why}")
        if job.starting:
            _print(console, f"          still loading PyTorch: {', '.join(map(str, job.starting))}")


def _print(console: Console, line: str) -> None:
    """A line of any length: the terminal folds it, and a pipe gets it whole."""
    console.print(Text(line), soft_wrap=True)


def age(seconds: float) -> str:
    """`42s`, `17m`, `5h`, `3d`: the largest unit that is whole."""
    for unit, name in _AGES:
        if seconds >= unit:
            return f"{int(seconds // unit)}{name}"
    return "0s"


def _grid() -> Table:
    table = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
    for name, width in _COLUMNS:
        right = name not in ("USER", "RANK")
        table.add_column(justify="right" if right else "left", min_width=width, no_wrap=True)
    table.add_column(no_wrap=True)
    return table


def _title(job: JobRow) -> str:
    first = job.ranks[0] if job.ranks else None
    name = first.script if first else job.command
    where = f"  in {first.cwd}" if first and first.cwd else ""
    parts = ["notebook kernel" if job.kernel else None, f"launcher {job.launcher}" if job.launcher else None]
    workers = sum(rank.workers for rank in job.ranks)
    parts.append(f"{workers} DataLoader worker{'s' * (workers > 1)}" if workers else None)
    more = ", ".join(part for part in parts if part)
    return f"{name}{where}{f'  ({more})' if more else ''}"


def _cells(job: JobRow, rank: RankRow) -> tuple[str, ...]:
    place = MISSING if rank.rank is None else f"{rank.rank}/{job.world_size or '?'}"
    cpu = MISSING if rank.cpu_share is None else f"{100 * rank.cpu_share:.0f}%"
    return (
        str(rank.pid),
        place,
        rank.user,
        age(rank.age_s),
        cpu,
        size(rank.rss_bytes),
        size(rank.gpu_memory_bytes) if rank.gpu_memory_bytes is not None else MISSING,
    )
