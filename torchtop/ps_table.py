"""The job list as text: one block for a job, one line for a rank. Readable at 80 columns, without colour, and piped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torchtop.ps import JobRow, RankRow
from torchtop.tui.text.plain import printable
from torchtop.tui.text.units import MISSING, size

_AGES = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"), (1.0, "s"))
_COLUMNS = (("PID", 7), ("RANK", 5), ("USER", 8), ("AGE", 4), ("CPU", 5), ("RSS", 8), ("GPU", 8), ("ATTACH", 6))
_LEFT = ("RANK", "USER", "ATTACH")


def show(jobs: Iterable[JobRow]) -> None:
    """Print to stdout. Lines are as long as they are, never cut: the list may be read by a program."""
    print(HEADING)
    for job in jobs:
        print(title(job))
        for rank in job.ranks:
            print(row(job, rank))
            if rank.why is not None:
                print(printable(f"          {rank.why}: {rank.fix}" if rank.fix else f"          {rank.why}"))
        if job.starting:
            print(f"          still loading PyTorch: {', '.join(map(str, job.starting))}")


def age(seconds: float) -> str:
    """`42s`, `17m`, `5h`, `3d`: the largest unit that is whole."""
    for unit, name in _AGES:
        if seconds >= unit:
            return f"{int(seconds // unit)}{name}"
    return "0s"


def title(job: JobRow) -> str:
    """The program and where it runs."""
    first = job.ranks[0] if job.ranks else None
    name = first.script if first else job.command
    where = f"  in {first.cwd}" if first and first.cwd else ""
    parts = ["notebook kernel" if job.kernel else None, f"launcher {job.launcher}" if job.launcher else None]
    workers = sum(rank.workers for rank in job.ranks)
    parts.append(f"{workers} DataLoader worker{'s' * (workers > 1)}" if workers else None)
    more = ", ".join(part for part in parts if part)
    return printable(f"{name}{where}{f'  ({more})' if more else ''}")


def row(job: JobRow, rank: RankRow) -> str:
    """One rank, below `HEADING`."""
    place = MISSING if rank.rank is None else f"{rank.rank}/{job.world_size or '?'}"
    cpu = MISSING if rank.cpu_share is None else f"{100 * rank.cpu_share:.0f}%"
    return _line(
        (
            str(rank.pid),
            place,
            printable(rank.user),
            age(rank.age_s),
            cpu,
            size(rank.rss_bytes),
            size(rank.gpu_memory_bytes) if rank.gpu_memory_bytes is not None else MISSING,
            "yes" if rank.attachable else "no",
        )
    )


def _line(cells: Sequence[str]) -> str:
    columns = zip(_COLUMNS, cells, strict=True)
    return " ".join(
        f"{cell:<{width}}" if name in _LEFT else f"{cell:>{width}}" for (name, width), cell in columns
    ).rstrip()


HEADING = _line([name for name, _ in _COLUMNS])
