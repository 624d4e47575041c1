"""GPUs and their MIG instances, through NVML (NVML API Reference Guide, "Device Queries"; nvml.h names the calls).

Each call is guarded by itself: what a device does not support is None, with the reason in `missing`, and the rest is
read. A device that fell off the bus yields a sample that says so, and the others go on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import anyio
import anyio.to_thread

from torchtop.collectors.base import Polled
from torchtop.errors import Unavailable
from torchtop.record import GpuProcess, GpuSample

OPEN_TIMEOUT_S = 60.0  # without the persistence daemon the driver initialises every GPU on open: seconds for each
READ_TIMEOUT_S = 5.0  # a reading takes milliseconds; longer means a hung driver
NOT_AVAILABLE = (1 << 64) - 1  # NVML_VALUE_NOT_AVAILABLE, as older pynvml hands it on

# nvmlClocksEventReasons in nvml.h. Bit 0, "GPU idle", is left out: an idle GPU is not held down.
_GPU_IDLE = 0x1
_REASONS = {
    0x002: "applications-clocks",
    0x004: "sw-power-cap",
    0x008: "hw-slowdown",
    0x010: "sync-boost",
    0x020: "sw-thermal-slowdown",
    0x040: "hw-thermal-slowdown",
    0x080: "hw-power-brake",
    0x100: "display-clocks",
    0x200: "board-limit",
    0x400: "reliability",
}

_CURES = {
    "NVML_ERROR_LIBRARY_NOT_FOUND": "no NVIDIA driver library (libnvidia-ml.so.1) here: install the NVIDIA driver, "
    "or start the container with GPUs (docker run --gpus all)",
    "NVML_ERROR_DRIVER_NOT_LOADED": "the NVIDIA kernel driver is not loaded: run `modprobe nvidia`, "
    "or reboot if the driver was just installed",
    "NVML_ERROR_UNINITIALIZED": "NVML did not initialise: run `nvidia-smi` to see what is wrong with the driver",
    "NVML_ERROR_NO_PERMISSION": "no permission to use the NVIDIA driver: "
    "give this user read and write access to /dev/nvidia*",
    "NVML_ERROR_LIB_RM_VERSION_MISMATCH": "the NVIDIA library and kernel driver are of different versions: "
    "reboot, or reload the nvidia kernel modules",
}


def throttle_names(mask: int) -> tuple[str, ...]:
    """Short names of the bits that hold clocks down, lowest bit first; a bit this file does not know keeps its number."""
    bits = [1 << shift for shift in range(mask.bit_length()) if mask >> shift & 1]
    return tuple(_REASONS.get(bit, f"unknown-{bit:#x}") for bit in bits if bit != _GPU_IDLE)


def merge_processes(*lists: Sequence[Any]) -> tuple[GpuProcess, ...]:
    """One entry for each pid, by pid: a process that computes and draws is in both lists, with the same memory."""
    memory: dict[int, int | None] = {}
    for entry in (entry for entries in lists for entry in entries):
        used = None if entry.usedGpuMemory == NOT_AVAILABLE else entry.usedGpuMemory
        known = memory.get(entry.pid)
        memory[entry.pid] = used if known is None else max(known, used or 0)
    return tuple(GpuProcess(pid=pid, memory_bytes=memory[pid]) for pid in sorted(memory))


class Reading:
    """One reading of one device: calls NVML, and keeps the reason of each call that fails.

    `known` holds what does not change while the device exists, over all readings of it.
    """

    def __init__(self, nvml: Any, handle: Any, known: dict[str, Any]) -> None:
        self.missing: dict[str, str] = {}
        self._nvml = nvml
        self._handle = handle
        self._known = known

    def get(self, field: str, *names: str, args: tuple[Any, ...] = ()) -> Any:
        """What the first of `names` that works returns, else None and a reason. Raises `NVMLError` if the GPU is lost.

        Several names are one call in the course of driver versions, the newest first.
        """
        reasons = []
        for name in names:
            call = getattr(self._nvml, name, None)
            if call is None:
                reasons.append(f"{name}: not in this nvidia-ml-py")
                continue
            try:
                return call(self._handle, *args)
            except self._nvml.NVMLError as error:
                if error.value == self._nvml.NVML_ERROR_GPU_IS_LOST:
                    raise
                reasons.append(f"{name}: {error}")
        self.missing[field] = "; ".join(reasons)
        return None

    def get_once(self, field: str, name: str, args: tuple[Any, ...] = ()) -> Any:
        """As `get`, but asked again only until it was answered."""
        if field not in self._known:
            value = self.get(field, name, args=args)
            if value is None:
                return None
            self._known[field] = value
        return self._known[field]

    def memory(self) -> Any:
        """(total, used, ...); `used` is without the driver's own reserve where the driver tells them apart (R510)."""
        try:
            return self._nvml.nvmlDeviceGetMemoryInfo(self._handle, version=self._nvml.nvmlMemory_v2)
        except self._nvml.NVMLError as error:
            if error.value == self._nvml.NVML_ERROR_GPU_IS_LOST:
                raise
        info = self.get("memory_used_bytes", "nvmlDeviceGetMemoryInfo")
        if info is None:
            self.missing["memory_total_bytes"] = self.missing["memory_used_bytes"]
        return info

    def processes(self) -> tuple[GpuProcess, ...] | None:
        """Processes on the device; None, with a reason, if either list cannot be read: half a list would mislead."""
        lists = [
            self.get("processes", f"nvmlDeviceGet{kind}RunningProcesses_v3", f"nvmlDeviceGet{kind}RunningProcesses_v2")
            for kind in ("Compute", "Graphics")
        ]
        return None if "processes" in self.missing else merge_processes(*lists)


class GpuCollector(Polled):
    """All NVIDIA GPUs of the machine. Cost: some 18 NVML calls a device, made in a worker thread."""

    name: ClassVar[str] = "gpu"

    def __init__(self, period_s: float = 1.0) -> None:
        super().__init__(period_s)
        self._nvml: Any = None
        self._handles: dict[int, Any] = {}
        self._known: dict[int, dict[str, Any]] = {}
        self._in_nvml = False

    async def open(self) -> None:
        """Load the driver's library. `Unavailable` if there is none, no driver or no GPU."""
        with anyio.move_on_after(OPEN_TIMEOUT_S) as scope:
            self._nvml = await anyio.to_thread.run_sync(_load, abandon_on_cancel=True)
        if scope.cancelled_caught:
            raise Unavailable(f"the NVIDIA driver did not answer within {OPEN_TIMEOUT_S:.0f} s: try `nvidia-smi`")

    async def read(self) -> Sequence[GpuSample]:
        """A sample for each device and MIG instance. `NVMLError` if the driver is gone altogether."""
        if self._in_nvml:
            # A thread in a hung driver cannot be stopped; one such thread is enough.
            raise TimeoutError("the NVIDIA driver still has not answered the last reading")
        with anyio.move_on_after(READ_TIMEOUT_S):
            return await anyio.to_thread.run_sync(self._read, abandon_on_cancel=True)
        raise TimeoutError(f"the NVIDIA driver did not answer within {READ_TIMEOUT_S:.0f} s")

    async def close(self) -> None:
        nvml, self._nvml = self._nvml, None
        self._handles.clear()
        if nvml is None or self._in_nvml:
            return
        try:
            # Shielded: closing happens in a cancelled scope, too.
            with anyio.move_on_after(READ_TIMEOUT_S, shield=True):
                await anyio.to_thread.run_sync(nvml.nvmlShutdown, abandon_on_cancel=True)
        except nvml.NVMLError as error:
            self.meter.reason = f"nvmlShutdown: {error}"

    @staticmethod
    def expected_failures() -> tuple[type[Exception], ...]:
        import pynvml

        return (pynvml.NVMLError,)

    def _read(self) -> tuple[GpuSample, ...]:
        self._in_nvml = True
        try:
            count = self._nvml.nvmlDeviceGetCount()
            return tuple(sample for index in range(count) for sample in self._device(index))
        finally:
            self._in_nvml = False

    def _device(self, index: int) -> Iterator[GpuSample]:
        """The whole device, then its MIG instances."""
        nvml = self._nvml
        try:
            if index not in self._handles:
                self._handles[index] = nvml.nvmlDeviceGetHandleByIndex(index)
            handle = self._handles[index]
            samples = [_sample(nvml, handle, index, None, self._known.setdefault(index, {}))]
            # MIG instances come and go under the same index: nothing of them is kept from one reading to the next.
            samples += [_sample(nvml, mig, index, mig_index, {}) for mig_index, mig in _mig_handles(nvml, handle)]
        except nvml.NVMLError as error:
            yield _lost(index, f"{error}")
        else:
            yield from samples


def _load() -> Any:
    """pynvml, initialised and with at least one GPU to ask about."""
    try:
        # 8,000 lines and ctypes: paid only where GPUs are watched.
        import pynvml as nvml
    except ImportError as error:
        raise Unavailable("nvidia-ml-py is not installed: pip install nvidia-ml-py") from error
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        cures = {getattr(nvml, name): cure for name, cure in _CURES.items()}
        cure = cures.get(error.value, f"NVML did not start ({error}): run `nvidia-smi` to see what is wrong")
        raise Unavailable(cure) from error
    try:
        count = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError as error:
        nvml.nvmlShutdown()
        raise Unavailable(f"NVML cannot count GPUs ({error}): run `nvidia-smi` to see what is wrong") from error
    if count == 0:
        nvml.nvmlShutdown()
        raise Unavailable("the NVIDIA driver shows no GPU: check `nvidia-smi -L`, in containers NVIDIA_VISIBLE_DEVICES")
    return nvml


def _mig_handles(nvml: Any, device: Any) -> Iterator[tuple[int, Any]]:
    """(index, handle) of each MIG instance; indices may have gaps (NVML, "Multi Instance GPU Management")."""
    asked = Reading(nvml, device, {})
    mode = asked.get("mig", "nvmlDeviceGetMigMode")
    if mode is None or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
        return
    for index in range(asked.get("mig", "nvmlDeviceGetMaxMigDeviceCount") or 0):
        handle = asked.get("mig", "nvmlDeviceGetMigDeviceHandleByIndex", args=(index,))
        if handle is not None:
            yield index, handle


def _sample(nvml: Any, handle: Any, index: int, mig_index: int | None, known: dict[str, Any]) -> GpuSample:
    """Everything the device gives. Raises `NVMLError` if it is lost."""
    t = time.monotonic()
    reading = Reading(nvml, handle, known)
    get, get_once = reading.get, reading.get_once
    sm, memory_clock = (nvml.NVML_CLOCK_SM,), (nvml.NVML_CLOCK_MEM,)
    uncorrected = (nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC)
    uuid, name = get_once("uuid", "nvmlDeviceGetUUID"), get_once("name", "nvmlDeviceGetName")
    util = get("util", "nvmlDeviceGetUtilizationRates")
    if util is None:
        reading.missing["memory_util"] = reading.missing["util"]
    memory = reading.memory()
    temperature = get(
        "temperature_c", "nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature", args=(nvml.NVML_TEMPERATURE_GPU,)
    )
    reasons = get(
        "throttle_reasons", "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"
    )
    return GpuSample(
        t=t,
        index=index,
        mig_index=mig_index,
        uuid=uuid,
        name=name,
        util=util.gpu / 100 if util else None,
        memory_util=util.memory / 100 if util else None,
        memory_used_bytes=memory.used if memory else None,
        memory_total_bytes=memory.total if memory else None,
        power_w=_thousandth(get("power_w", "nvmlDeviceGetPowerUsage")),
        power_limit_w=_thousandth(get("power_limit_w", "nvmlDeviceGetEnforcedPowerLimit")),
        energy_j=_thousandth(get("energy_j", "nvmlDeviceGetTotalEnergyConsumption")),
        temperature_c=None if temperature is None else float(temperature),
        sm_clock_mhz=get("sm_clock_mhz", "nvmlDeviceGetClockInfo", args=sm),
        sm_clock_max_mhz=get_once("sm_clock_max_mhz", "nvmlDeviceGetMaxClockInfo", args=sm),
        memory_clock_mhz=get("memory_clock_mhz", "nvmlDeviceGetClockInfo", args=memory_clock),
        throttle_reasons=throttle_names(reasons) if reasons is not None else None,
        processes=reading.processes(),
        missing=reading.missing,
        pcie_generation=get("pcie_generation", "nvmlDeviceGetCurrPcieLinkGeneration"),
        pcie_generation_max=get_once("pcie_generation_max", "nvmlDeviceGetMaxPcieLinkGeneration"),
        pcie_width=get("pcie_width", "nvmlDeviceGetCurrPcieLinkWidth"),
        pcie_width_max=get_once("pcie_width_max", "nvmlDeviceGetMaxPcieLinkWidth"),
        ecc_uncorrected=get("ecc_uncorrected", "nvmlDeviceGetTotalEccErrors", args=uncorrected),
    )


def _thousandth(value: int | None) -> float | None:
    """mW to W, mJ to J."""
    return None if value is None else value / 1000


def _lost(index: int, reason: str) -> GpuSample:
    """A device of which nothing can be said but why."""
    return GpuSample(
        t=time.monotonic(),
        index=index,
        mig_index=None,
        uuid=None,
        name=None,
        util=None,
        memory_util=None,
        memory_used_bytes=None,
        memory_total_bytes=None,
        power_w=None,
        power_limit_w=None,
        energy_j=None,
        temperature_c=None,
        sm_clock_mhz=None,
        sm_clock_max_mhz=None,
        memory_clock_mhz=None,
        throttle_reasons=None,
        processes=None,
        missing={"device": reason},
    )
