"""Readings of a rank and its workers."""

from __future__ import annotations

from tests.advisor.windows import process
from torchtop.processes import Processes


def test_all_workers_of_the_last_look_are_alive() -> None:
    """They are read one after the other; the third one ended before."""
    known = Processes(4001)
    for look, pids in ((1.0, (4001, 5001, 5002, 5003)), (2.0, (4001, 5001, 5002))):
        for at, pid in enumerate(pids):
            known.take(process(look + 0.001 * at, pid=pid))
    assert sorted(known.alive) == [5001, 5002]
