"""How much memory the slowest rank uses, and whether there is more to be had."""

from __future__ import annotations

from typing import NamedTuple

from torchtop.advisor.judgement import number
from torchtop.seen import RankSeen, Seen
from torchtop.snapshot import Evidence

_PRESSED_HOST = 0.80  # share of the memory there is; TraceML 0.5.0 warns from here on
_PRESSED_DEVICE = 0.90  # share of a GPU's memory; gpuprof 0.7.1, torch-tb-profiler 0.4.3


class Footprint(NamedTuple):
    """peak_bytes: of the rank; taken: share of what there is that all ranks here use; None: limit not known."""

    peak_bytes: int
    limit_bytes: int | None
    taken: float | None
    pressed: bool

    @property
    def in_words(self) -> str:
        """`, with 12 % of it free`, or nothing."""
        return "" if self.taken is None else f", while {max(1 - self.taken, 0.0):.0%} of what there is is free"


def footprint(seen: Seen) -> Footprint | None:
    """None when the memory of the slowest rank was not read."""
    slow = seen.slow
    if slow is None:
        return None
    return _on_device(seen, slow) if slow.on_cuda else _on_host(seen, slow)


def of_memory(used: Footprint, window_s: float) -> list[Evidence]:
    """The numbers of it."""
    found = [number("memory in use at its peak", used.peak_bytes, "bytes", window_s)]
    if used.limit_bytes is not None and used.taken is not None:
        found.append(number("memory there is", used.limit_bytes, "bytes", window_s))
        found.append(number("in use by all ranks here", used.taken, "of it", window_s))
    return found


def _on_host(seen: Seen, slow: RankSeen) -> Footprint | None:
    peak = _resident(slow)
    if peak is None:
        return None
    limit = seen.memory_limit_bytes
    taken = sum(_resident(rank) or 0 for rank in seen.ranks) / limit if limit else None
    return Footprint(peak, limit, taken, taken is not None and taken >= _PRESSED_HOST)


def _resident(rank: RankSeen) -> int | None:
    """bytes, the highest reading."""
    return max((one.rss_bytes for one in rank.processes if one.rss_bytes is not None), default=None)


def _on_device(seen: Seen, slow: RankSeen) -> Footprint | None:
    if not slow.allocator:
        return None
    held = [one for one in seen.devices if slow.pid in one.job_pids or len(seen.devices) == 1]
    limit = held[0].readings[-1].memory_total_bytes if held else None
    used = held[0].readings[-1].memory_used_bytes if held else None
    peak = slow.allocator[-1].peak_bytes
    taken = max(peak, used or 0) / limit if limit else None
    return Footprint(peak, limit, taken, taken is not None and taken >= _PRESSED_DEVICE)
