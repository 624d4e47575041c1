"""What a panel draws from: the newest snapshot and the room there is. No clock, no files: the same view, the same text."""

from __future__ import annotations

from typing import NamedTuple

from torchtop.snapshot import Distribution, Rank, Snapshot


class View(NamedTuple):
    """width, height: columns and rows inside the panel; pid: the rank that was chosen to look at, None for the slowest."""

    snapshot: Snapshot
    width: int
    height: int
    zoomed: bool = False
    pid: int | None = None

    @property
    def slowest(self) -> Distribution | None:
        """The rank that `steps` and `memory` are of; None before one is attached."""
        steps = self.snapshot.steps
        return next((rank for rank in steps.by_rank if rank.pid == steps.pid), None)

    @property
    def shown_rank(self) -> Rank | None:
        """The rank whose layers are shown; None before there is one."""
        pid = self.pid if self.pid is not None else self.snapshot.steps.pid
        return next((rank for rank in self.snapshot.job.ranks if rank.pid == pid), None)


def rank_name(rank: Rank | Distribution) -> str:
    """`rank 3`, or the process where it has no number."""
    return f"rank {rank.rank}" if rank.rank is not None else f"process {rank.pid}"
