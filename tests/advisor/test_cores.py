"""Who uses the cores."""

from __future__ import annotations

import pytest

from tests.advisor.windows import NOW, hosts, processes, rank, seen
from torchtop.advisor.cores import by_strangers, by_workers, idle, run_delay, used
from torchtop.record import Neighbour


def test_means_leave_out_what_was_not_read() -> None:
    assert used(()) is None
    assert used(processes(5, cpu_share=None)) is None
    assert used((*processes(2, cpu_share=None), *processes(2, cpu_share=0.5))) == 0.5
    assert run_delay(rank(processes=processes(2))) is None


@pytest.mark.parametrize(
    ("named", "util", "strangers"),
    [
        (None, 1.0, 8 - 1.0 - 0.3),  # a machine that is full, a job of one core
        (2.0, 0.2, 2.0),
        (0.0, 0.15, 0.0),
    ],
)
def test_strangers_are_those_seen_or_what_the_machine_uses_beyond_the_job(
    named: float | None, util: float, strangers: float
) -> None:
    busy = None if named is None else (Neighbour(t=NOW, pid=9, name="stress", cores=named),)
    assert by_strangers(seen(neighbours=busy, host=hosts(cpu_util=util))) == pytest.approx(strangers)


def test_nobody_read_is_not_nobody_there() -> None:
    assert by_strangers(seen(neighbours=None, host=())) is None


def test_idle_cores_are_those_of_the_jobs_own_share() -> None:
    alive = {5001: processes(pid=5001, cpu_share=1.0)}
    window = seen(rank(workers=alive), host=hosts(cpu_util=0.25), usable_cores=4.0)
    assert by_workers(window) == 1.0
    assert idle(window) == pytest.approx(2.0)
    assert idle(seen(usable_cores=None)) is None
