"""How far a job is from running out of memory."""

from __future__ import annotations

import pytest

from tests.tui import scenes
from torchtop.snapshot import Snapshot
from torchtop.tui.headroom import Headroom, headroom

GIB = scenes.GIB


def of(snapshot: Snapshot) -> Headroom | None:
    return headroom(snapshot, snapshot.job.ranks[0])


@pytest.mark.parametrize(
    ("share", "mark"), [(0.5, ""), (0.9, ""), (0.901, "!"), (0.97, "!"), (0.971, "!!"), (1.0, "!!")]
)
def test_marks(share: float, mark: str) -> None:
    assert Headroom(round((1 - share) * 10**6), 10**6, "cgroup").mark == mark


def test_the_machine_where_there_is_no_cgroup_limit() -> None:
    snapshot = scenes.healthy()
    assert of(snapshot) == Headroom(
        snapshot.host.memory_available_bytes or 0, snapshot.host.memory_bytes or 0, "machine"
    )


def test_ranks_share_the_limit_of_their_cgroup_and_its_file_cache_does_not_count() -> None:
    limited = {"cgroup_memory_limit_bytes": 4 * GIB, "cgroup_memory_bytes": 4 * GIB, "rss_bytes": GIB}
    parts = {f"job__ranks__{rank}__{name}": value for rank in (0, 1) for name, value in limited.items()}
    snapshot = scenes.changed(scenes.two_ranks(), **parts)
    assert of(snapshot) == Headroom(2 * GIB, 4 * GIB, "cgroup")
    assert of(scenes.changed(snapshot, job__ranks__1__stage="ended")) == Headroom(3 * GIB, 4 * GIB, "cgroup")


def test_a_limit_above_what_the_machine_has_is_none() -> None:
    snapshot = scenes.changed(scenes.healthy(), job__ranks__0__cgroup_memory_limit_bytes=2**60)
    found = of(snapshot)
    assert found is not None and found.whose == "machine"


def test_a_gpu_by_what_its_allocator_reserved() -> None:
    assert of(scenes.eight_gpus()) == Headroom(19 * GIB, 80 * GIB, "device")
    assert of(scenes.changed(scenes.eight_gpus(), memory__reserved_bytes=None)) == Headroom(
        22 * GIB, 80 * GIB, "device"
    )
    unknown = scenes.changed(scenes.eight_gpus(), memory__reserved_bytes=None, memory__used_bytes=None)
    assert of(unknown) is None


def test_nothing_is_known() -> None:
    snapshot = scenes.changed(
        scenes.healthy(), host__memory_available_bytes=None, memory__used_bytes=None, job__ranks=[]
    )
    assert headroom(snapshot, None) is None
