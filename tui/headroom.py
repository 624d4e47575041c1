"""How far a job is from running out of memory."""

from __future__ import annotations

from typing import NamedTuple

from torchtop.snapshot import Rank, Snapshot

WARN = 0.90  # of the limit in use: one larger batch or a fragmented allocator takes the rest
CRITICAL = 0.97  # what is left is about the size of one allocation


class Headroom(NamedTuple):
    """Bytes. whose: what sets the limit."""

    free: int
    limit: int
    whose: str

    @property
    def used_share(self) -> float:
        """0..1 of the limit."""
        return 1.0 - self.free / self.limit

    @property
    def mark(self) -> str:
        """`!` or `!!` when there is little left, '' otherwise."""
        return "!!" if self.used_share > CRITICAL else "!" if self.used_share > WARN else ""


def headroom(snapshot: Snapshot, rank: Rank | None) -> Headroom | None:
    """Of the memory that `snapshot.memory` is of, which is that of `rank`; None where it is not known."""
    memory, host = snapshot.memory, snapshot.host
    if rank is not None and "cuda" in (rank.device or ""):
        taken = memory.reserved_bytes if memory.reserved_bytes is not None else memory.used_bytes
        return _of(memory.limit_bytes, taken, "device")
    limit = rank.cgroup_memory_limit_bytes if rank is not None else None
    if rank is not None and limit is not None and (host.memory_bytes is None or limit < host.memory_bytes):
        # What the cgroup uses has the file cache in it, which gives way; resident memory of all in it does not.
        together = [
            other.rss_bytes or 0
            for other in snapshot.job.ranks
            if other.cgroup_memory_limit_bytes == limit and other.stage not in ("ended", "replaced")
        ]
        return _of(limit, sum(together) if together else memory.used_bytes, "cgroup")
    if host.memory_bytes and host.memory_available_bytes is not None:
        return Headroom(host.memory_available_bytes, host.memory_bytes, "machine")
    return _of(memory.limit_bytes, memory.used_bytes, "limit")


def _of(limit: int | None, used: int | None, whose: str) -> Headroom | None:
    return Headroom(max(limit - used, 0), limit, whose) if limit and used is not None else None
