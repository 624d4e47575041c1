"""Which GPUs are the job's, and which of their readings count."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.advisor import published
from tests.advisor.windows import GIB, NOW, PID, device, gpu, on_gpu, rank, rows, seen
from torchtop.advisor.gpus import Gpu, idle, of_job, of_rank
from torchtop.advisor.judgement import Abstain
from torchtop.record import GpuProcess
from torchtop.seen import DeviceSeen, Seen


def _held(index: int, *held: tuple[int, int], **changes: Any) -> DeviceSeen:
    """held: (pid, bytes) of each process on it."""
    processes = tuple(GpuProcess(pid, held_bytes) for pid, held_bytes in held)
    return replace(device(index=index, processes=processes, **changes), job_pids=tuple(pid for pid, _ in held))


def _indices(found: tuple[Gpu, ...] | Abstain) -> list[tuple[int, int | None]]:
    assert not isinstance(found, Abstain)
    return [(one.latest.index, one.latest.mig_index) for one in found]


def _job(*devices: DeviceSeen) -> Seen:
    return seen(rank(0), rank(1), devices=devices, devices_reason=None)


def test_each_rank_has_its_own_and_a_mere_context_is_none() -> None:
    """The second rank opened a context on the first GPU, as torch.load without map_location does."""
    window = _job(_held(0, (PID, 30 * GIB), (PID + 1, GIB // 2)), _held(1, (PID + 1, 30 * GIB)))
    assert _indices(of_rank(window, window.ranks[0])) == [(0, None)]
    assert _indices(of_rank(window, window.ranks[1])) == [(1, None)]
    assert _indices(of_job(window)) == [(0, None), (1, None)]


def test_several_of_one_rank_with_the_fullest_first() -> None:
    window = _job(_held(0, (PID, 10 * GIB)), _held(1, (PID, 30 * GIB)))
    assert _indices(of_rank(window, window.ranks[0])) == [(1, None), (0, None)]


def test_memory_that_the_driver_does_not_tell() -> None:
    one = replace(device(processes=(GpuProcess(PID, None),)), job_pids=(PID,))
    window = _job(one, _held(1))
    assert _indices(of_rank(window, window.ranks[0])) == [(0, None)]


def test_the_only_gpu_must_be_it() -> None:
    window = on_gpu(replace(device(), job_pids=()))
    assert _indices(of_rank(window, window.ranks[0])) == [(0, None)]


@pytest.mark.parametrize(
    ("environment", "index"),
    [
        ({"CUDA_VISIBLE_DEVICES": "2"}, 2),
        ({"CUDA_VISIBLE_DEVICES": "GPU-3"}, 3),
        ({"LOCAL_RANK": "1"}, 1),
        ({"LOCAL_RANK": "1", "CUDA_VISIBLE_DEVICES": "3,2"}, 2),
        ({"LOCAL_RANK": "1", "CUDA_VISIBLE_DEVICES": "3"}, 3),
        ({"LOCAL_RANK": "4"}, None),
        ({"LOCAL_RANK": "1", "CUDA_VISIBLE_DEVICES": "0,-1,1"}, 0),
        ({"LOCAL_RANK": "x", "CUDA_VISIBLE_DEVICES": ""}, None),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, None),
    ],
)
def test_in_a_container_by_the_ranks_environment(environment: dict[str, str], index: int | None) -> None:
    gpus = [replace(device(index=at, uuid=f"GPU-{at}"), job_pids=()) for at in range(4)]
    window = on_gpu(*gpus, facts=published.on_cuda(environment=environment))
    found = of_rank(window, window.ranks[0])
    assert isinstance(found, Abstain) if index is None else _indices(found) == [(index, None)]


def test_one_of_several_cannot_be_guessed() -> None:
    window = on_gpu(*(replace(device(index=at), job_pids=()) for at in range(2)))
    assert isinstance(of_job(window), Abstain)


def test_the_instance_and_not_the_gpu_that_is_divided() -> None:
    window = _job(_held(0, (PID, GIB), util=None), _held(0, (PID, GIB), mig_index=2, util=None))
    assert _indices(of_rank(window, window.ranks[0])) == [(0, 2)]


def test_readings_before_the_first_step_do_not_count() -> None:
    readings = tuple(gpu(NOW - 39 + at, util=0.0 if at < 20 else 1.0) for at in range(40))
    window = on_gpu(published.of(readings), steps=rows(180, step_s=0.1))
    found = of_rank(window, window.ranks[0])
    assert not isinstance(found, Abstain)
    assert found[0].values(idle) == [0.0] * 18


def test_steps_of_a_millisecond_fill_the_window_and_readings_count_all_the_same() -> None:
    window = on_gpu(device(), steps=rows(4_000, step_s=0.001))
    found = of_rank(window, window.ranks[0])
    assert not isinstance(found, Abstain)
    assert len(found[0].readings) >= 19


def test_only_the_latest_readings_count() -> None:
    readings = tuple(gpu(NOW - 599 + at) for at in range(600))
    window = on_gpu(published.of(readings), steps=rows(600, step_s=1.0, end=NOW + 1))
    found = of_rank(window, window.ranks[0])
    assert not isinstance(found, Abstain)
    assert len(found[0].readings) == 120


def test_a_missing_reading_says_why() -> None:
    window = on_gpu(device(util=None, missing={"util": "Not Supported"}))
    found = of_rank(window, window.ranks[0])
    assert not isinstance(found, Abstain)
    assert found[0].mean("util", idle) == Abstain("Not Supported")
