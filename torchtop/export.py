"""`torchtop export`: watch without a screen, and write it down."""

from __future__ import annotations

from torchtop.attach.job import find
from torchtop.json_writer import JsonWriter
from torchtop.session import Options, nothing_measured, watch

_HORIZON_S = 60.0  # s that one line of an endless jsonl looks back


def export(target: str, options: Options, lines: bool, path: str | None) -> int:
    """Watch TARGET and write it down; returns the exit code. Raises `TorchtopError`."""
    job = find(target)
    writer = JsonWriter(path, lines)
    if lines and options.duration_s is None:
        options = options._replace(horizon_s=_HORIZON_S)
    try:
        outcome = watch(job, options, writer.take)
        writer.finish()
    finally:
        writer.abandon()
    if outcome.interrupted:
        return 130
    problem = outcome.lost or nothing_measured(job, outcome)
    if problem is not None:
        raise problem
    return 0
