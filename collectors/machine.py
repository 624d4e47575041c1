"""How many cores the job may use, and how fast the CPU is, as it was once measured by consent.

`calibrate` measures one core with peak_rates.py, in a process of the target's own interpreter: that one has the torch
which the job computes with. The collector only reads what was kept. GPU peaks are published: torchtop/gpu_peaks.py.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timezone
from importlib.resources import files
from pathlib import Path
from typing import ClassVar, NamedTuple

import anyio
import msgspec

from torchtop.attach.interpreter import Interpreter, interpreter_of, own_interpreter
from torchtop.collectors import machine_cache
from torchtop.collectors.base import Meter
from torchtop.collectors.host import cpu_model
from torchtop.collectors.process import cgroup_directories
from torchtop.errors import AttachError, Unavailable
from torchtop.record import CoreRates, MachineSample

METHOD = (
    "one thread at nice 19: product of two 1024 x 1024 matrices, and copy of 64 MiB (bytes read and written together); "
    "the best block of 0.3 s each, per second of CPU time"
)
_TIMEOUT_S = 120.0  # measuring takes 2 s of CPU, but beside a busy job nice 19 gets a small share of a core


class _Printed(msgspec.Struct):
    """What peak_rates.py prints."""

    torch: str
    missing: dict[str, str]
    float32_flops_per_s: float | None
    bfloat16_flops_per_s: float | None
    copy_bytes_per_s: float | None


class Calibrated(NamedTuple):
    """What was measured, and a sentence that says so and where it is kept, or why it is not."""

    core: CoreRates
    sentence: str


def calibrate(pid: int | None, cache: Path | None = None, proc: Path = Path("/proc")) -> Calibrated:
    """Measure one core with the interpreter of `pid`, or with our own if that is None, and keep the result. Takes 2 s
    on a quiet machine; call it by consent only.

    Raises `UsageError` when our own has no torch, `NoTarget` or `AttachError` when that of `pid` cannot be run.
    """
    core = _measure(own_interpreter() if pid is None else interpreter_of(pid))
    path = machine_cache.cache_file() if cache is None else cache
    problem = machine_cache.write(path, cpu_model(proc), core)
    kept = f"kept in {path}" if problem is None else f"not kept, another run will not know it ({problem})"
    return Calibrated(core, f"one core: {_in_words(core)}; {kept}")


def _measure(interpreter: Interpreter) -> CoreRates:
    program = (files("torchtop.collectors") / "peak_rates.py").read_text()
    try:
        done = subprocess.run(
            interpreter.command("-", *interpreter.folders),
            input=program,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            **interpreter.popen,
        )
        if done.returncode == 0:
            printed = msgspec.json.decode(done.stdout.splitlines()[-1], type=_Printed)
            measured = datetime.now(timezone.utc).isoformat(timespec="seconds")
            return CoreRates(measured=measured, method=METHOD, **msgspec.structs.asdict(printed))
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}, and nothing was said"])[-1]
    except subprocess.TimeoutExpired:
        said = f"it did not finish within {_TIMEOUT_S:.0f} s: try again when the machine is less busy"
    except (OSError, IndexError, msgspec.DecodeError) as error:
        said = str(error)
    raise AttachError(f"{interpreter.path} could not measure this CPU: {said}")


def _in_words(core: CoreRates) -> str:
    rates = (
        ("float32", core.float32_flops_per_s, "GFLOP/s"),
        ("bfloat16", core.bfloat16_flops_per_s, "GFLOP/s"),
        ("copy", core.copy_bytes_per_s, "GB/s"),
    )
    return ", ".join(f"{name} {rate / 1e9:.0f} {unit}" for name, rate, unit in rates if rate is not None)


class MachineCollector:
    """The cores that the ranks may use, and what was kept of this machine: once, and anew for other ranks. Cost: some ten
    small files. Without the latter the cores are told all the same, and the meter has the reason.
    """

    name: ClassVar[str] = "machine"

    def __init__(
        self,
        rank_pids: tuple[int, ...],
        cache: Path | None = None,
        proc: Path = Path("/proc"),
        sys: Path = Path("/sys"),
    ) -> None:
        self.meter = Meter()
        self._rank_pids = rank_pids
        self._others = anyio.Event()
        self._cache = cache
        self._proc = proc
        self._sys = sys

    def follow(self, rank_pids: tuple[int, ...]) -> None:
        """These are the job's ranks from now on."""
        if rank_pids != self._rank_pids:
            self._rank_pids = rank_pids
            self._others.set()

    async def open(self) -> None:
        """Nothing is held."""

    async def samples(self) -> AsyncIterator[MachineSample]:
        """Yield a reading for each set of ranks until cancelled."""
        while True:
            yield self._read()
            await self._others.wait()
            self._others = anyio.Event()

    def _read(self) -> MachineSample:
        began = time.monotonic()
        cores, because = usable_cores(self._rank_pids, self._proc, self._sys)
        core, self.meter.reason = None, None
        try:
            core = machine_cache.read(self._cache or machine_cache.cache_file(), cpu_model(self._proc))
        except Unavailable as absent:
            self.meter.reason = str(absent)
        self.meter.reads += 1
        self.meter.total_s += time.monotonic() - began
        return MachineSample(t=began, usable_cores=cores, usable_cores_because=because, core=core)

    async def close(self) -> None:
        """Nothing is held."""


def parse_cpu_list(text: str) -> frozenset[int]:
    """CPUs of a list as the kernel writes it, "0-2,5" (cpuset(7), "List format")."""
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first:
            found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def parse_quota(v2: str | None, quota: str | None, period: str | None) -> float | None:
    """CPUs that `cpu.max` (cgroup v2), or `cpu.cfs_quota_us` and `cpu.cfs_period_us` (v1), allow; None for no limit."""
    allowed, every = v2.split() if v2 is not None else ((quota or "-1").strip(), (period or "0").strip())
    return int(allowed) / int(every) if allowed not in ("max", "-1") and int(every) else None


def usable_cores(pids: Sequence[int], proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> tuple[float | None, str]:
    """(cores that the processes may use together, what sets that number).

    A core counts once however many hardware threads it has: they share what multiplies.
    """
    cpus: set[int] = set()
    quotas = []
    for pid in pids:
        status = _text(proc / str(pid) / "status") or ""
        allowed = re.search(r"^Cpus_allowed_list:\s*(\S+)", status, re.MULTILINE)
        cpus |= parse_cpu_list(allowed[1]) if allowed else set()
        for folder in cgroup_directories(sys / "fs/cgroup", _text(proc / str(pid) / "cgroup") or "", "cpu"):
            names = ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us")
            quotas.append(parse_quota(*(_text(folder / name) for name in names)))
    if not cpus:
        return None, "the ranks have ended, or the kernel does not list their CPUs"
    siblings = "devices/system/cpu/cpu{}/topology/thread_siblings_list"
    cores = {parse_cpu_list(_text(sys / siblings.format(cpu)) or str(cpu)) for cpu in cpus}
    quota = min((quota for quota in quotas if quota is not None), default=None)
    if quota is not None and quota < len(cores):
        return quota, f"cgroup quota of {quota:g} CPUs"
    return float(len(cores)), f"cores with the {len(cpus)} CPUs of its affinity mask"


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None
