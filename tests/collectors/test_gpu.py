"""The gpu collector against a stub of the driver's library, in a process of its own, so that real ctypes runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from torchtop.collectors.gpu import GpuCollector, merge_processes, throttle_names
from torchtop.errors import Unavailable
from torchtop.record import GpuProcess, GpuSample

STUB = Path(__file__).parent.parent / "fixtures" / "nvml_stub.c"

READ_TWICE = """
import anyio, msgspec, sys
from torchtop.collectors.gpu import GpuCollector
from torchtop.errors import Unavailable

async def main():
    collector = GpuCollector()
    try:
        await collector.open()
    except Unavailable as error:
        return {"unavailable": str(error), "readings": []}
    readings = [await collector.read(), await collector.read()]
    await collector.close()
    await collector.close()
    return {"unavailable": None, "readings": readings, "reason": collector.meter.reason}

sys.stdout.buffer.write(msgspec.json.encode(anyio.run(main)))
"""


class Outcome(msgspec.Struct):
    """What the process of READ_TWICE saw."""

    unavailable: str | None
    readings: list[list[GpuSample]]
    reason: str | None = None


Build = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Compile the stub and return the folder of the library."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("NVML STUB NOT TESTED: no C compiler (cc, gcc or clang) to build tests/fixtures/nvml_stub.c")

    def compile_stub(*options: str) -> Path:
        library = tmp_path / "libnvidia-ml.so.1"
        command = [compiler, "-shared", "-fPIC", "-Wall", "-o", str(library), *options, str(STUB)]
        subprocess.run(command, check=True, timeout=60)
        return tmp_path

    return compile_stub


def read_twice(library: Path, **environment: str) -> Outcome:
    """Open, read twice and close in a fresh interpreter whose loader looks in `library` first."""
    done = subprocess.run(
        [sys.executable, "-c", READ_TWICE],
        env={**os.environ, **environment, "LD_LIBRARY_PATH": str(library)},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    return msgspec.json.decode(done.stdout, type=Outcome)


def test_reads_every_field_in_its_unit(build: Build) -> None:
    outcome = read_twice(build())
    assert outcome.unavailable is None and outcome.reason is None
    for reading in outcome.readings:
        assert [(sample.index, sample.mig_index) for sample in reading] == [(0, None), (0, 1), (1, None)]
        whole, _, other = reading
        assert other == GpuSample(
            t=other.t,
            index=1,
            mig_index=None,
            uuid="GPU-1111",
            name="NVIDIA Stub",
            util=0.87,
            memory_util=0.25,
            memory_used_bytes=2 << 30,
            memory_total_bytes=80 << 30,
            power_w=312.5,
            power_limit_w=400.0,
            energy_j=None,
            temperature_c=61.0,
            sm_clock_mhz=1410,
            sm_clock_max_mhz=1980,
            memory_clock_mhz=1593,
            throttle_reasons=(),
            processes=(),
            missing={
                "energy_j": "nvmlDeviceGetTotalEnergyConsumption: Not Supported",
                "ecc_uncorrected": "nvmlDeviceGetTotalEccErrors: Not Supported",
            },
            pcie_generation=1,
            pcie_generation_max=4,
            pcie_width=8,
            pcie_width_max=16,
            ecc_uncorrected=None,
        )
        assert (whole.pcie_generation, whole.pcie_width, whole.ecc_uncorrected) == (4, 16, 5_000_000_001)
        assert whole.energy_j == 5_000_000_000.123
        assert whole.throttle_reasons == ("sw-power-cap", "hw-thermal-slowdown")
        assert whole.processes == (GpuProcess(17, None), GpuProcess(99, 4096), GpuProcess(4242, 1 << 30))
        assert whole.util is None and set(whole.missing) == {"util", "memory_util"}


def test_mig_instance_has_memory_and_says_what_it_lacks(build: Build) -> None:
    mig = read_twice(build()).readings[0][1]
    assert (mig.uuid, mig.name) == ("MIG-aaaa", "NVIDIA Stub MIG 1g.10gb")
    assert (mig.memory_used_bytes, mig.memory_total_bytes) == (2 << 30, 10 << 30)
    assert mig.power_w is None and "Invalid Argument" in mig.missing["power_w"]
    assert mig.processes is None and "Insufficient Permissions" in mig.missing["processes"]
    unread = {field for field in GpuSample.__struct_fields__ if getattr(mig, field) is None}
    assert unread == set(mig.missing)


def test_old_driver_is_asked_by_the_old_names(build: Build) -> None:
    whole, _, other = read_twice(build("-DOLD_DRIVER")).readings[1]
    assert whole.throttle_reasons == ("sw-power-cap", "hw-thermal-slowdown")
    assert whole.processes is not None and len(whole.processes) == 3
    assert (other.memory_used_bytes, other.memory_total_bytes) == (3 << 30, 80 << 30)


def test_lost_gpu_says_so_and_the_others_go_on(build: Build) -> None:
    first, second = read_twice(build(), NVML_STUB_LOST="1").readings
    assert first[2].util == 0.87
    assert [(sample.index, sample.mig_index) for sample in second] == [(0, None), (0, 1), (1, None)]
    assert second[0].power_w == 312.5
    lost = second[2]
    assert lost.missing == {"device": "GPU is lost"}
    assert {f for f in GpuSample.__struct_fields__ if getattr(lost, f) is not None} == {"t", "index", "missing"}


@pytest.mark.parametrize(
    ("code", "cure"),
    [("1", "nvidia-smi"), ("4", "/dev/nvidia"), ("9", "modprobe nvidia"), ("18", "reboot"), ("999", "nvidia-smi")],
)
def test_driver_that_does_not_start_is_unavailable_with_a_cure(build: Build, code: str, cure: str) -> None:
    outcome = read_twice(build(), NVML_STUB_INIT=code)
    assert outcome.unavailable is not None and cure in outcome.unavailable


def test_no_device_is_unavailable(build: Build) -> None:
    outcome = read_twice(build(), NVML_STUB_COUNT="0")
    assert outcome.unavailable is not None and "shows no GPU" in outcome.unavailable


def test_without_the_library_it_is_unavailable(tmp_path: Path) -> None:
    # An empty file hides the real library, so that the test holds on machines with a GPU, too.
    (tmp_path / "libnvidia-ml.so.1").touch()
    outcome = read_twice(tmp_path)
    assert outcome.unavailable is not None and "install the NVIDIA driver" in outcome.unavailable


def test_importing_the_collector_does_not_load_nvml() -> None:
    code = "import sys, torchtop.collectors.gpu; sys.exit('pynvml' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("mask", "names"),
    [
        (0x0, ()),
        (0x1, ()),
        (0x2, ("applications-clocks",)),
        (0x4 | 0x8, ("sw-power-cap", "hw-slowdown")),
        (0x10 | 0x20 | 0x1, ("sync-boost", "sw-thermal-slowdown")),
        (0x40 | 0x80 | 0x100, ("hw-thermal-slowdown", "hw-power-brake", "display-clocks")),
        (0x8000, ("unknown-0x8000",)),
    ],
)
def test_throttle_names(mask: int, names: tuple[str, ...]) -> None:
    assert throttle_names(mask) == names


def test_memory_that_is_not_available_is_none_unless_another_list_knows_it() -> None:
    unknown = [SimpleNamespace(pid=1, usedGpuMemory=(1 << 64) - 1), SimpleNamespace(pid=2, usedGpuMemory=None)]
    known = [SimpleNamespace(pid=2, usedGpuMemory=7)]
    assert merge_processes(unknown, known) == merge_processes(known, unknown) == (GpuProcess(1, None), GpuProcess(2, 7))


@pytest.mark.gpu
async def test_real_library() -> None:
    collector = GpuCollector()
    try:
        await collector.open()
    except Unavailable as error:
        pytest.skip(f"REAL NVML NOT TESTED: {error}")
    try:
        samples = await collector.read()
    finally:
        await collector.close()
    assert samples
    for sample in samples:
        assert sample.uuid is not None and sample.name is not None
        assert sample.memory_used_bytes is not None and sample.memory_total_bytes is not None
        assert 0 <= sample.memory_used_bytes <= sample.memory_total_bytes
        unread = {f for f in GpuSample.__struct_fields__ if getattr(sample, f) is None} - {"mig_index"}
        assert unread == set(sample.missing)
