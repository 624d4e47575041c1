"""The machine: CPU, memory, pressure, swap, disks and network, from /proc (proc(5), kernel Documentation/accounting/psi.rst).

Every file but /proc/stat may be absent (containers, PSI off): its fields are None and the rest goes on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

from torchtop.attach.proc import PAGE_BYTES
from torchtop.collectors.base import Polled
from torchtop.errors import Unavailable
from torchtop.record import HostSample

SECTOR_BYTES = (
    512  # unit of /proc/diskstats, whatever the disk's own sector size (Documentation/admin-guide/iostats.rst)
)

# Stacked or in-memory devices: their bytes are counted once more on the disk below, or never reach one.
_NOT_A_DISK = re.compile(r"(loop|ram|zram|dm-|md|bcache|drbd|sr|fd)\d|nvme\d+c\d+n\d")
# Traffic of these also passes a physical interface, which counts it.
_NOT_A_WIRE = re.compile(r"lo$|veth|docker|br-|(vm|vir)?br\d|bond|team|vlan|ifb|tun|tap|wg|cni|flannel|cali|.*\.\d+$")


class CpuTimes(NamedTuple):
    """Clock ticks of all CPUs together since boot."""

    busy: int
    total: int
    cpus: int


class Counters(NamedTuple):
    """What is kept of a reading to make rates of the next one; None where it could not be read."""

    t: float
    cpu: CpuTimes
    disk: tuple[int, int] | None
    net: tuple[int, int] | None
    swap: tuple[int, int] | None


def parse_stat(text: str) -> CpuTimes:
    """CPU times of /proc/stat. Waiting for IO is idle; time stolen by the hypervisor is busy: it was not to be had."""
    lines = [line.split() for line in text.splitlines() if line.startswith("cpu")]
    # guest and guest_nice (columns 9 and 10) are already part of user and nice.
    ticks = [int(field) for field in lines[0][1:9]]
    total = sum(ticks)
    return CpuTimes(busy=total - sum(ticks[3:5]), total=total, cpus=len(lines) - 1)


def parse_loadavg(text: str) -> float:
    """Run-queue length, mean of the last minute."""
    return float(text.split(maxsplit=1)[0])


def parse_meminfo(text: str) -> dict[str, int]:
    """Bytes by name."""
    rows = (line.split() for line in text.splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if row[2:] == ["kB"]}


def parse_pressure(text: str) -> float | None:
    """Share (0..1) of the last 10 s in which some task waited for the resource."""
    found = re.search(r"^some avg10=([\d.]+)", text, re.MULTILINE)
    return float(found[1]) / 100 if found else None


def parse_diskstats(text: str) -> tuple[int, int]:
    """Bytes read and written since boot by whole disks that stand on nothing else."""
    rows = {row[2]: row for row in (line.split() for line in text.splitlines()) if len(row) > 9}
    disks = [row for name, row in rows.items() if not _NOT_A_DISK.match(name) and not _is_partition(name, rows)]
    return sum(int(row[5]) for row in disks) * SECTOR_BYTES, sum(int(row[9]) for row in disks) * SECTOR_BYTES


def parse_net_dev(text: str) -> tuple[int, int]:
    """Bytes received and sent by physical interfaces of this network namespace. RDMA bypasses these counters."""
    received = sent = 0
    for line in text.splitlines()[2:]:
        name, _, counts = line.partition(":")
        if not _NOT_A_WIRE.match(name.strip()):
            fields = counts.split()
            received += int(fields[0])
            sent += int(fields[8])
    return received, sent


def parse_vmstat(text: str) -> tuple[int, int] | None:
    """Bytes read back from and written to swap since boot; None in kernels without swap. zswap and zram count, too."""
    found = re.search(r"^pswpin (\d+)\npswpout (\d+)$", text, re.MULTILINE)
    return (int(found[1]) * PAGE_BYTES, int(found[2]) * PAGE_BYTES) if found else None


def per_second(now: float | None, before: float | None, seconds: float) -> float | None:
    """Growth of a counter per second; None if either reading is missing or the counter began anew."""
    if now is None or before is None or seconds <= 0 or now < before:
        return None
    return (now - before) / seconds


def cpu_model(proc: Path = Path("/proc")) -> str | None:
    """Model name of the first CPU; None where the kernel does not name it (arm64) or there is no cpuinfo."""
    text = _text(proc / "cpuinfo")
    found = re.search(r"^(?:model name|cpu)\s*:\s*(\S.*?)\s*$", text, re.MULTILINE) if text else None
    return found[1] if found else None


class HostCollector(Polled):
    """The machine as a whole. Cost: 9 small reads, about 0.2 ms; too short for a thread."""

    name: ClassVar[str] = "host"

    def __init__(self, period_s: float = 1.0, proc: Path = Path("/proc")) -> None:
        super().__init__(period_s)
        self._proc = proc
        self._before: Counters | None = None

    async def open(self) -> None:
        if not (self._proc / "stat").exists():
            raise Unavailable(f"there is no {self._proc / 'stat'}: torchtop needs Linux with /proc mounted")

    async def read(self) -> Sequence[HostSample]:
        """One sample; rates are None in the first. OSError if /proc/stat cannot be read."""
        disk, net, vmstat = (_text(self._proc / name) for name in ("diskstats", "net/dev", "vmstat"))
        now = Counters(
            t=time.monotonic(),
            cpu=parse_stat((self._proc / "stat").read_text()),
            disk=parse_diskstats(disk) if disk is not None else None,
            net=parse_net_dev(net) if net is not None else None,
            swap=parse_vmstat(vmstat) if vmstat is not None else None,
        )
        before, self._before = self._before, now
        loadavg = _text(self._proc / "loadavg")
        memory = parse_meminfo(_text(self._proc / "meminfo") or "")
        swap, swap_free = memory.get("SwapTotal"), memory.get("SwapFree")
        read_rate, write_rate = _rates(now, before, now.disk, before.disk if before else None)
        receive_rate, send_rate = _rates(now, before, now.net, before.net if before else None)
        in_rate, out_rate = _rates(now, before, now.swap, before.swap if before else None)
        return (
            HostSample(
                t=now.t,
                cpus=now.cpu.cpus,
                cpu_util=_utilisation(now.cpu, before.cpu) if before else None,
                load1=parse_loadavg(loadavg) if loadavg else None,
                memory_bytes=memory.get("MemTotal"),
                memory_available_bytes=memory.get("MemAvailable"),
                swap_used_bytes=swap - swap_free if swap is not None and swap_free is not None else None,
                cpu_pressure=self._pressure("cpu"),
                memory_pressure=self._pressure("memory"),
                io_pressure=self._pressure("io"),
                disk_read_bytes_per_s=read_rate,
                disk_write_bytes_per_s=write_rate,
                net_receive_bytes_per_s=receive_rate,
                net_send_bytes_per_s=send_rate,
                swap_in_bytes_per_s=in_rate,
                swap_out_bytes_per_s=out_rate,
            ),
        )

    def _pressure(self, resource: str) -> float | None:
        text = _text(self._proc / "pressure" / resource)
        return parse_pressure(text) if text else None


def _is_partition(name: str, names: dict[str, list[str]]) -> bool:
    """Whether `name` is a disk of `names` and a partition number: sda1 of sda, nvme0n1p2 of nvme0n1."""
    found = re.fullmatch(r"(.*?\d)p\d+|(.*?\D)\d+", name)
    return found is not None and (found[1] or found[2]) in names


def _rates(
    now: Counters, before: Counters | None, counts: tuple[int, int] | None, earlier: tuple[int, int] | None
) -> tuple[float | None, float | None]:
    if before is None or counts is None or earlier is None:
        return None, None
    seconds = now.t - before.t
    return per_second(counts[0], earlier[0], seconds), per_second(counts[1], earlier[1], seconds)


def _utilisation(now: CpuTimes, before: CpuTimes) -> float | None:
    # The kernel's idle and iowait may step back a little; a share outside 0..1 would be its error, not a fact.
    elapsed = now.total - before.total
    return min(1.0, max(0.0, (now.busy - before.busy) / elapsed)) if elapsed > 0 else None


def _text(path: Path) -> str | None:
    """The file, or None where this kernel or container has none (PSI switched off fails in `read`, not in `open`)."""
    try:
        return path.read_text()
    except OSError:
        return None
