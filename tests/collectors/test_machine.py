"""The machine collector: what sets the usable cores, a file that may not be believed, and one real calibration."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.conftest import Start
from torchtop import gpu_peaks
from torchtop.attach.interpreter import interpreter_of
from torchtop.collectors import machine_cache
from torchtop.collectors.host import cpu_model
from torchtop.collectors.machine import MachineCollector, calibrate, parse_cpu_list, parse_quota, usable_cores
from torchtop.errors import AttachError, NoTarget, Unavailable
from torchtop.record import CoreRates, MachineSample

PID = 7
CORE = CoreRates(
    torch="2.13.0",
    measured="2026-01-02T03:04:05+00:00",
    method="by hand",
    float32_flops_per_s=2e11,
    bfloat16_flops_per_s=None,
    copy_bytes_per_s=1e10,
    missing={"bfloat16_flops_per_s": "not on this CPU"},
)


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A process that may run on CPUs 0-3 and 6; 0 and 1 are two threads of one core, and so are 2 and 3."""
    put(tmp_path / f"proc/{PID}/status", "Name:\tpython\nCpus_allowed:\t4f\nCpus_allowed_list:\t0-3,6\n")
    for cpu, siblings in enumerate(("0-1", "0-1", "2-3", "2-3")):
        put(tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", f"{siblings}\n")
    return tmp_path / "proc"


def test_cpu_list() -> None:
    assert parse_cpu_list("0-2,5\n") == {0, 1, 2, 5}
    assert parse_cpu_list("\n") == set()


@pytest.mark.parametrize(
    ("v2", "quota", "period", "cpus"),
    [
        ("150000 100000\n", None, None, 1.5),
        ("max 100000\n", None, None, None),
        (None, "50000\n", "100000\n", 0.5),
        (None, "-1\n", "100000\n", None),
        (None, None, None, None),
    ],
)
def test_quota(v2: str | None, quota: str | None, period: str | None, cpus: float | None) -> None:
    assert parse_quota(v2, quota, period) == cpus


def test_hardware_threads_of_one_core_count_once(proc: Path) -> None:
    cores, because = usable_cores((PID,), proc, proc.parent / "sys")
    assert cores == 3.0 and "5 CPUs" in because


@pytest.mark.parametrize(("quota", "expected"), [("250000 100000\n", 2.5), ("400000 100000\n", 3.0)])
def test_the_smallest_quota_above_the_process_counts(proc: Path, quota: str, expected: float) -> None:
    put(proc / f"{PID}/cgroup", "0::/a/b\n")
    put(proc.parent / "sys/fs/cgroup/a/cpu.max", quota)
    put(proc.parent / "sys/fs/cgroup/a/b/cpu.max", "max 100000\n")
    assert usable_cores((PID,), proc, proc.parent / "sys")[0] == expected


def test_of_a_process_that_ended_nothing_is_known(tmp_path: Path) -> None:
    assert usable_cores((PID,), tmp_path, tmp_path)[0] is None


def test_usable_cores_of_this_process() -> None:
    cores, _ = usable_cores((os.getpid(),))
    assert cores is not None and 0 < cores <= len(os.sched_getaffinity(0))


def test_kept_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "new/folder/file.json"
    assert machine_cache.write(path, "a CPU", CORE) is None
    assert machine_cache.read(path, "a CPU") == CORE
    assert [file.name for file in path.parent.iterdir()] == ["file.json"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "never measured"),
        ("{", "damaged"),
        (b"\xff\xfe", "damaged"),
        ('{"schema": "torchtop.machine/1"}', "damaged"),
        ("other version", "another version"),
        ("other CPU", "another CPU"),
        ("folder", "cannot be read"),
    ],
)
def test_what_may_not_be_believed_is_said_with_the_way_out(
    tmp_path: Path, content: str | bytes | None, says: str
) -> None:
    path = tmp_path / "file.json"
    if content in ("other version", "other CPU"):
        machine_cache.write(path, "a CPU", CORE)
        kept = json.loads(path.read_text())
        kept["schema" if content == "other version" else "cpu_model"] = "another"
        path.write_text(json.dumps(kept))
    elif content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(Unavailable, match=says) as problem:
        machine_cache.read(path, "a CPU")
    assert machine_cache.COMMAND in str(problem.value)


def test_where_it_is_kept(tmp_path: Path) -> None:
    put(tmp_path / "etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    path = machine_cache.cache_file({"XDG_CACHE_HOME": "/cache"}, tmp_path)
    assert path == Path("/cache/torchtop/0123456789abcdef0123456789abcdef.json")
    assert machine_cache.cache_file({"XDG_CACHE_HOME": "relative"}, tmp_path).parent == Path.home() / ".cache/torchtop"
    put(tmp_path / "etc/machine-id", "uninitialized\n")
    assert "/" not in machine_cache.machine_id(tmp_path) != "uninitialized"


async def test_without_a_file_only_the_cores_are_told_and_why(tmp_path: Path, proc: Path) -> None:
    collector = MachineCollector((PID,), tmp_path / "none.json", proc, tmp_path / "sys")
    await collector.open()
    sample = await anext(collector.samples())
    assert collector.meter.reason is not None
    assert "never measured" in collector.meter.reason and machine_cache.COMMAND in collector.meter.reason
    assert (sample.usable_cores, sample.core) == (3.0, None)


async def test_it_reads_anew_for_other_ranks(tmp_path: Path, proc: Path) -> None:
    collector = MachineCollector((PID,), tmp_path / "none.json", proc, tmp_path / "sys")
    readings = collector.samples()
    assert (await anext(readings)).usable_cores == 3.0
    collector.follow((PID,))
    collector.follow((PID + 1,))
    with anyio.fail_after(10):
        assert (await anext(readings)).usable_cores is None, "that process has ended"
    collector.follow((PID + 1,))
    with anyio.move_on_after(0) as waiting:
        await anext(readings)
    assert waiting.cancelled_caught and collector.meter.reads == 2


async def test_one_reading(tmp_path: Path, proc: Path) -> None:
    machine_cache.write(tmp_path / "file.json", None, CORE)
    collector = MachineCollector((PID,), tmp_path / "file.json", proc, tmp_path / "sys")
    await collector.open()
    sample = await anext(collector.samples())
    await collector.close()
    assert sample == MachineSample(
        t=sample.t, usable_cores=3.0, usable_cores_because=sample.usable_cores_because, core=CORE
    )
    assert collector.meter.reads == 1


def test_calibration_with_the_interpreter_of_a_target(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "cache/machine.json"
    target = start("train.py", "--model", "mlp", "--steps", "100000", "--small").wait_ready()
    interpreter = interpreter_of(target.pid)
    assert interpreter.path == sys.executable, "by the name that says which virtual environment it is"
    core, sentence = calibrate(target.pid, path)
    assert target.stop()["errors"] == []
    assert core.float32_flops_per_s is not None and core.float32_flops_per_s > 1e8
    assert core.copy_bytes_per_s is not None and core.copy_bytes_per_s > 1e8
    assert (core.bfloat16_flops_per_s is None) == ("bfloat16_flops_per_s" in core.missing)
    assert str(path) in sentence and "GFLOP/s" in sentence
    assert machine_cache.read(path, cpu_model()) == core


def test_calibration_that_cannot_be_kept_says_so(tmp_path: Path) -> None:
    put(tmp_path / "file", "in the way")
    core, sentence = calibrate(None, tmp_path / "file/machine.json")
    assert core.float32_flops_per_s is not None
    assert "not kept" in sentence and "file/machine.json: " in sentence


def test_another_users_interpreter_runs_as_that_user(start: Start, tmp_path: Path) -> None:
    """What another user could have written must not run as root."""
    if os.geteuid() != 0:
        pytest.skip("needs root to start a job as another user")
    site = sysconfig.get_path("purelib")
    python = shutil.which(f"python{sys.version_info.major}.{sys.version_info.minor}", path="/usr/bin")
    nobody: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": ()}
    can_read = f"import sys; sys.path.insert(0, {site!r}); import torch; open({str(Path(__file__))!r})"
    if python is None or subprocess.run([python, "-c", can_read], check=False, stderr=-3, **nobody).returncode:
        pytest.skip(f"another user cannot run a Python of this version in /usr/bin with the torch in {site}")
    target = start("sleeper.py", "--torch", python=python, env={"PYTHONPATH": site}, **nobody).wait_ready()
    popen = interpreter_of(target.pid).popen
    assert (popen["user"], popen["group"], popen["extra_groups"]) == (65534, 65534, ())
    assert calibrate(target.pid, tmp_path / "machine.json").core.float32_flops_per_s is not None


def test_a_process_without_torch_is_no_target() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with pytest.raises(NoTarget, match="no torch"):
            interpreter_of(process.pid)
    finally:
        process.communicate(b"\n")
    with pytest.raises((NoTarget, AttachError)):
        calibrate(999999999)


def test_gpu_peaks_are_for_whole_names_only() -> None:
    known = gpu_peaks.published("NVIDIA A100-SXM4-80GB", False)
    assert isinstance(known, gpu_peaks.Peaks)
    assert known.flops_per_s["bfloat16"] == 312e12 and known.memory_bytes_per_s == pytest.approx(2.039e12)
    for name, mig in (("NVIDIA A100-SXM4-80GB", True), ("NVIDIA L40", False), (None, False)):
        assert isinstance(gpu_peaks.published(name, mig), str)
