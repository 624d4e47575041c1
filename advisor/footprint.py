"""How much memory the slowest rank uses, and whether there is more to be had."""

from __future__ import annotations

from typing import NamedTuple

from torchtop.advisor import gpus
from torchtop.advisor.judgement import Abstain, number
from torchtop.seen import RankSeen, Seen
from torchtop.snapshot import Evidence

_PRESSED_HOST = 0.80  # share of the memory there is; TraceML 0.5.0 warns from here on
_PRESSED_DEVICE = 0.90  # share of a GPU's memory; gpuprof 0.7.1, torch-tb-profiler 0.4.3


class Footprint(NamedTuple):
    """peak_bytes: of the rank, on a host without mapped files, which the kernel can take back; taken: share of what there
    is that all ranks here use; None: limit not known."""

    peak_bytes: int
    limit_bytes: int | None
    taken: float | None
    pressed: bool

    @property
    def in_words(self) -> str:
        """`, with 12 % of it free`, or nothing."""
        return "" if self.taken is None else f", while {max(1 - self.taken, 0.0):.0%} of what there is is free"


def footprint(seen: Seen) -> Footprint | None:
    """None when the memory of the slowest rank was not read. Five rules ask, of thousands of readings: `seen` keeps it."""
    if "_footprint" not in vars(seen):
        slow = seen.slow
        vars(seen)["_footprint"] = (
            None if slow is None else _on_device(seen, slow) if slow.on_cuda else _on_host(seen, slow)
        )
    kept: Footprint | None = vars(seen)["_footprint"]
    return kept


def of_memory(used: Footprint, window_s: float) -> list[Evidence]:
    """The numbers of it."""
    found = [number("memory in use at its peak", used.peak_bytes, "bytes", window_s)]
    if used.limit_bytes is not None and used.taken is not None:
        found.append(number("memory there is", used.limit_bytes, "bytes", window_s))
        found.append(number("in use by all ranks here", used.taken, "of it", window_s))
    return found


def _on_host(seen: Seen, slow: RankSeen) -> Footprint | None:
    peak = _held(slow)
    if peak is None:
        return None
    limit = seen.memory_limit_bytes
    taken = _taken(seen, limit) / limit if limit else None
    return Footprint(peak, limit, taken, taken is not None and taken >= _PRESSED_HOST)


def _taken(seen: Seen, limit: int) -> int:
    """bytes of all ranks here. What several share counts in each of them: together it is no more than all in use."""
    held = [_held(rank) or 0 for rank in seen.ranks]
    in_use = [
        one.memory_bytes - one.memory_available_bytes
        for one in seen.host
        if one.memory_bytes == limit and one.memory_available_bytes is not None
    ]
    return min(sum(held), max(*held, *in_use)) if in_use else sum(held)


def _held(rank: RankSeen) -> int | None:
    """bytes, the highest reading."""
    return max([held for _, held in rank.held_bytes], default=None)


def _on_device(seen: Seen, slow: RankSeen) -> Footprint | None:
    if not slow.allocator:
        return None
    held = gpus.of_rank(seen, slow)
    latest = None if isinstance(held, Abstain) else held[0].latest
    limit = latest.memory_total_bytes if latest is not None else None
    used = latest.memory_used_bytes if latest is not None else None
    peak = slow.allocator[-1].peak_bytes
    taken = max(peak, used or 0) / limit if limit else None
    return Footprint(peak, limit, taken, taken is not None and taken >= _PRESSED_DEVICE)
