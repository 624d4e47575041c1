"""CLOCK_MONOTONIC as a target sees it: a time namespace shifts it (time_namespaces(7))."""

from __future__ import annotations

from torchtop.attach import proc


def shift_s(pid: int) -> float:
    """Seconds by which the clock of `pid` is ahead of ours. OSError when it is gone or may not be looked at."""
    ours, theirs = (proc.namespace(who, "time") for who in ("self", pid))
    if ours is None or theirs is None or ours == theirs:
        return 0.0
    return _offset_s(pid) - _offset_s("self")


def _offset_s(who: int | str) -> float:
    """Against the machine's own clock. The file tells what children will get, which a process gets by running anew."""
    for line in (proc.PROC / str(who) / "timens_offsets").read_text().splitlines():
        name, seconds, nanoseconds = line.split()
        if name in ("monotonic", "1"):
            return int(seconds) + int(nanoseconds) / 1e9
    return 0.0
