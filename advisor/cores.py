"""Who uses the cores, from the readings of processes. A core is one logical CPU, busy all the time."""

from __future__ import annotations

from collections.abc import Sequence

from torchtop.advisor.statistics import Interval, interval, mean_of_known
from torchtop.record import ProcessSample
from torchtop.seen import RankSeen, Seen

_OWN_CORES = 0.3  # cores: the monitor's own, the kernel's, and what two clocks of reading leave between them
_LATELY = 60  # readings, one a second: older ones are of another time


def run_delay(rank: RankSeen) -> Interval | None:
    """Share of time in which the training thread was ready to run and had no core; None: fewer than three readings."""
    return interval([one.run_delay_share for one in rank.processes[-_LATELY:] if one.run_delay_share is not None])


def used(readings: Sequence[ProcessSample]) -> float | None:
    """Cores that one process used lately, mean; None: not read."""
    return mean_of_known(one.cpu_share for one in readings[-_LATELY:])


def by_ranks(seen: Seen) -> float:
    """Cores that the ranks used, without their workers; 0.0 where nothing was read."""
    return sum(used(rank.processes) or 0.0 for rank in seen.ranks)


def by_workers(seen: Seen) -> float:
    """Cores that the loader's workers of all ranks used; 0.0 where there are none."""
    return sum(used(readings) or 0.0 for rank in seen.ranks for readings in rank.workers.values())


def by_strangers(seen: Seen) -> float | None:
    """Cores that processes used which are not the job's: those that were seen, or where more, what the machine used
    beyond the job, since a container sees no others; with ranks here that are not attached, that would be theirs. None:
    neither was read.
    """
    named = sum(one.cores for one in seen.neighbours) if seen.neighbours is not None else None
    busy = _by_all(seen)
    if busy is None or not all(rank.processes for rank in seen.ranks) or len(seen.ranks) < (seen.world_size or 1):
        return named
    beyond = busy - by_ranks(seen) - by_workers(seen) - _OWN_CORES
    return max(named or 0.0, beyond)


def free(seen: Seen) -> float | None:
    """Cores of the machine that nobody used, whether the job may use them or not; None: not read."""
    busy = _by_all(seen)
    return None if busy is None else max(seen.host[-1].cpus - busy, 0.0)


def idle(seen: Seen) -> float | None:
    """Cores of those that the job may use that nobody used; None: not read."""
    left = free(seen)
    if seen.usable_cores is None or left is None:
        return None
    return max(min(left, seen.usable_cores - by_ranks(seen) - by_workers(seen)), 0.0)


def _by_all(seen: Seen) -> float | None:
    busy = [one.cpu_util * one.cpus for one in seen.host[-_LATELY:] if one.cpu_util is not None]
    return sum(busy) / len(busy) if busy else None
