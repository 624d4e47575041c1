"""The host collector: parsers on frozen text, rates on a changed copy of it, and one real reading."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from torchtop.attach.proc import PAGE_BYTES
from torchtop.collectors.host import (
    CpuTimes,
    HostCollector,
    cpu_model,
    parse_diskstats,
    parse_loadavg,
    parse_meminfo,
    parse_net_dev,
    parse_pressure,
    parse_stat,
    parse_vmstat,
    per_second,
)
from torchtop.errors import Unavailable
from torchtop.record import HostSample

PROC = Path(__file__).parent.parent / "fixtures" / "proc"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A copy of the frozen /proc that a test may change."""
    return Path(shutil.copytree(PROC, tmp_path / "proc"))


async def read(collector: HostCollector) -> HostSample:
    (sample,) = await collector.read()
    return sample


def test_cpu_times_leave_out_guests_and_count_waiting_as_idle() -> None:
    # user, nice, system, idle, iowait, irq, softirq, steal; the guest's 700 ticks are in user already.
    total = 10000 + 200 + 3000 + 80000 + 5000 + 100 + 300 + 400
    assert parse_stat((PROC / "stat").read_text()) == CpuTimes(busy=total - 85000, total=total, cpus=4)


def test_loadavg_is_the_one_minute_average() -> None:
    assert parse_loadavg((PROC / "loadavg").read_text()) == 3.25


def test_meminfo_is_in_bytes_and_leaves_out_counts() -> None:
    memory = parse_meminfo((PROC / "meminfo").read_text())
    assert memory["MemTotal"] == 24683656 * 1024
    assert "HugePages_Total" not in memory


@pytest.mark.parametrize(("resource", "share"), [("cpu", 0.125), ("memory", 0.0), ("io", 1.0)])
def test_pressure_is_a_share(resource: str, share: float) -> None:
    assert parse_pressure((PROC / "pressure" / resource).read_text()) == share


def test_pressure_of_unknown_text_is_none() -> None:
    assert parse_pressure("full avg10=1.00 avg60=0.00 avg300=0.00 total=0\n") is None


def test_disks_count_once() -> None:
    # sda, nvme0n1 and xvda1, whose whole disk the kernel does not show.
    sectors = (1000 + 30000 + 8, 2000 + 4000 + 16)
    assert parse_diskstats((PROC / "diskstats").read_text()) == (sectors[0] * 512, sectors[1] * 512)


def test_network_leaves_out_loopback_and_virtual_interfaces() -> None:
    assert parse_net_dev((PROC / "net/dev").read_text()) == (91009686 + 1000 + 1, 154681 + 2000 + 1)


def test_swapped_pages_are_bytes() -> None:
    assert parse_vmstat((PROC / "vmstat").read_text()) == (12 * PAGE_BYTES, 300 * PAGE_BYTES)
    assert parse_vmstat("nr_free_pages 1\npgpgin 2\npgpgout 3\n") is None


@pytest.mark.parametrize(
    ("now", "before", "seconds", "rate"),
    [
        (30.0, 10.0, 2.0, 10.0),
        (10.0, 10.0, 2.0, 0.0),
        (9.0, 10.0, 2.0, None),  # the counter began anew
        (30.0, 10.0, 0.0, None),
        (None, 10.0, 2.0, None),
        (30.0, None, 2.0, None),
    ],
)
def test_per_second(now: float | None, before: float | None, seconds: float, rate: float | None) -> None:
    assert per_second(now, before, seconds) == rate


def test_cpu_model(tmp_path: Path) -> None:
    assert cpu_model(PROC) == "Intel(R) Xeon(R) Platinum 8480+"
    assert cpu_model(tmp_path) is None
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nCPU implementer\t: 0x41\n")
    assert cpu_model(tmp_path) is None


async def test_first_reading_has_levels_and_no_rates(proc: Path) -> None:
    collector = HostCollector(proc=proc)
    await collector.open()
    sample = await read(collector)
    assert sample == HostSample(
        t=sample.t,
        cpus=4,
        cpu_util=None,
        load1=3.25,
        memory_bytes=24683656 * 1024,
        memory_available_bytes=22345076 * 1024,
        swap_used_bytes=4096 * 1024,
        cpu_pressure=0.125,
        memory_pressure=0.0,
        io_pressure=1.0,
        disk_read_bytes_per_s=None,
        disk_write_bytes_per_s=None,
        net_receive_bytes_per_s=None,
        net_send_bytes_per_s=None,
    )


async def test_second_reading_has_rates_since_the_first(proc: Path) -> None:
    collector = HostCollector(proc=proc)
    first = await read(collector)
    # 300 busy ticks and 100 idle ones; 1,000 sectors read and 2,000 written; 4,096 bytes received and none sent.
    stat = proc / "stat"
    stat.write_text(stat.read_text().replace("cpu  10000 200 3000 80000", "cpu  10300 200 3000 80100"))
    disks = proc / "diskstats"
    disks.write_text(disks.read_text().replace("sda 900 10 1000 300 500 20 2000", "sda 900 10 2000 300 500 20 4000"))
    net = proc / "net/dev"
    net.write_text(net.read_text().replace("  eth0: 91009686", "  eth0: 91013782"))
    vmstat = proc / "vmstat"
    vmstat.write_text(vmstat.read_text().replace("pswpin 12", "pswpin 22"))
    second = await read(collector)
    seconds = second.t - first.t
    assert second.cpu_util == 0.75
    assert second.disk_read_bytes_per_s == pytest.approx(1000 * 512 / seconds)
    assert second.disk_write_bytes_per_s == pytest.approx(2000 * 512 / seconds)
    assert second.net_receive_bytes_per_s == pytest.approx(4096 / seconds)
    assert second.net_send_bytes_per_s == 0.0
    assert second.swap_in_bytes_per_s == pytest.approx(10 * PAGE_BYTES / seconds)
    assert second.swap_out_bytes_per_s == 0.0


async def test_what_the_kernel_does_not_give_is_none(proc: Path) -> None:
    shutil.rmtree(proc / "pressure")
    for name in ("loadavg", "meminfo", "vmstat", "diskstats", "net/dev"):
        (proc / name).unlink()
    collector = HostCollector(proc=proc)
    await collector.open()
    await read(collector)
    sample = await read(collector)
    fields = set(HostSample.__struct_fields__) - {"t", "cpus"}
    assert {field for field in fields if getattr(sample, field) is not None} == set()


async def test_without_proc_it_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="/proc"):
        await HostCollector(proc=tmp_path).open()


async def test_real_machine() -> None:
    collector = HostCollector()
    await collector.open()
    await read(collector)
    sample = await read(collector)
    await collector.close()
    assert sample.cpus >= 1
    assert sample.memory_bytes is not None and sample.memory_available_bytes is not None
    assert 0 < sample.memory_available_bytes <= sample.memory_bytes
    assert sample.cpu_util is None or 0 <= sample.cpu_util <= 1
