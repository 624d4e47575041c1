"""Readings that cross from a collector to the window. Imports nothing of ours.

Times are seconds of `time.monotonic()` (CLOCK_MONOTONIC, the same clock in target and monitor); shares are
0..1; not readable is None. Each reading carries the keys that say whose it is. What the user gets as JSON
stands in `snapshot.py`.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from msgspec import Meta, Struct


class HostSample(Struct, frozen=True):
    """The machine as a whole. Source: /proc/stat, meminfo, pressure, vmstat, diskstats, net/dev."""

    t: Annotated[float, Meta(description="s, monotonic, when it was read")]
    cpus: Annotated[int, Meta(description="logical CPUs")]
    cpu_util: Annotated[float | None, Meta(description="0..1 of all CPUs, since the last reading")]
    load1: Annotated[float | None, Meta(description="run-queue length, 1-minute average")]
    memory_bytes: Annotated[int | None, Meta(description="physical memory")]
    memory_available_bytes: Annotated[int | None, Meta(description="memory that can be had without swapping")]
    swap_used_bytes: Annotated[int | None, Meta(description="swap in use")]
    cpu_pressure: Annotated[float | None, Meta(description="0..1, PSI some avg10 of cpu")]
    memory_pressure: Annotated[float | None, Meta(description="0..1, PSI some avg10 of memory")]
    io_pressure: Annotated[float | None, Meta(description="0..1, PSI some avg10 of io")]
    disk_read_bytes_per_s: Annotated[float | None, Meta(description="bytes/s read from disks")]
    disk_write_bytes_per_s: Annotated[float | None, Meta(description="bytes/s written to disks")]
    net_receive_bytes_per_s: Annotated[float | None, Meta(description="bytes/s received, without loopback")]
    net_send_bytes_per_s: Annotated[float | None, Meta(description="bytes/s sent, without loopback")]
    swap_in_bytes_per_s: Annotated[float | None, Meta(description="bytes/s read back from swap")] = None
    swap_out_bytes_per_s: Annotated[float | None, Meta(description="bytes/s written to swap")] = None


class Neighbour(Struct, frozen=True):
    """A busy process that is not the job's. Source: /proc/PID/stat."""

    t: Annotated[float, Meta(description="s, monotonic, when it was read")]
    pid: Annotated[int, Meta(description="process id as the monitor sees it")]
    name: Annotated[str, Meta(description="comm of /proc/PID/stat, 15 characters at most")]
    cores: Annotated[float, Meta(description="cores used since the last reading")]


class Neighbours(Struct, frozen=True):
    """One look at all other processes. Empty when nobody else was busy. Source: /proc/PID/stat."""

    t: Annotated[float, Meta(description="s, monotonic, when it was read")]
    processes: Annotated[tuple[Neighbour, ...], Meta(description="busiest first, 8 at most, 0.05 cores at least")]


class ProcessSample(Struct, frozen=True):
    """One process of the job: a rank, or one of its DataLoader workers. Source: /proc/PID, cgroup v2."""

    t: Annotated[float, Meta(description="s, monotonic, when it was read")]
    pid: Annotated[int, Meta(description="process id as the monitor sees it")]
    rank_pid: Annotated[int, Meta(description="pid of the rank it belongs to; its own pid for a rank")]
    state: Annotated[str, Meta(description="one letter of /proc/PID/stat: R S D T t Z")]
    cpu_share: Annotated[float | None, Meta(description="cores used since the last reading (2.0 = two cores)")]
    rss_bytes: Annotated[int | None, Meta(description="resident memory")]
    threads: Annotated[int | None, Meta(description="threads")]
    read_bytes_per_s: Annotated[float | None, Meta(description="bytes/s read from storage")]
    write_bytes_per_s: Annotated[float | None, Meta(description="bytes/s written to storage")]
    involuntary_switches_per_s: Annotated[float | None, Meta(description="1/s, times it was descheduled")]
    cgroup_memory_limit_bytes: Annotated[int | None, Meta(description="memory.max of its cgroup, None if unlimited")]
    cgroup_memory_bytes: Annotated[int | None, Meta(description="memory.current of its cgroup")]
    run_delay_share: Annotated[
        float | None, Meta(description="share of time in which its main thread was ready to run and did not get a CPU")
    ] = None
    major_faults_per_s: Annotated[float | None, Meta(description="1/s, page faults that had to read from disk")] = None
    private_bytes: Annotated[
        int | None, Meta(description="of resident memory, what is no mapped file; None in kernels that do not tell")
    ] = None

    @property
    def held_bytes(self) -> int | None:
        """bytes that the kernel cannot take back without swapping; where it does not tell them, all that is resident."""
        return self.rss_bytes if self.private_bytes is None else self.private_bytes


class GpuProcess(Struct, frozen=True):
    """Memory of one process on one device, as the driver accounts it."""

    pid: Annotated[int, Meta(description="process id in the host's PID namespace")]
    memory_bytes: Annotated[int | None, Meta(description="device memory it holds")]


class GpuSample(Struct, frozen=True):
    """One device, or one MIG instance of it. Source: NVML (nvml.h); see collectors/gpu.py for each call."""

    t: Annotated[float, Meta(description="s, monotonic, when it was read")]
    index: Annotated[int, Meta(description="NVML index of the physical device")]
    mig_index: Annotated[int | None, Meta(description="index of the MIG instance, None for a whole device")]
    uuid: Annotated[str | None, Meta(description="GPU-... or MIG-...")]
    name: Annotated[str | None, Meta(description="product name")]
    util: Annotated[float | None, Meta(description="0..1, share of time in which any kernel ran")]
    memory_util: Annotated[float | None, Meta(description="0..1, share of time in which memory was accessed")]
    memory_used_bytes: Annotated[int | None, Meta(description="device memory in use")]
    memory_total_bytes: Annotated[int | None, Meta(description="device memory")]
    power_w: Annotated[float | None, Meta(description="W drawn now")]
    power_limit_w: Annotated[float | None, Meta(description="W, enforced limit")]
    energy_j: Annotated[float | None, Meta(description="J since the driver was loaded")]
    temperature_c: Annotated[float | None, Meta(description="degrees C of the GPU")]
    sm_clock_mhz: Annotated[int | None, Meta(description="MHz of the SMs now")]
    sm_clock_max_mhz: Annotated[int | None, Meta(description="MHz of the SMs at most")]
    memory_clock_mhz: Annotated[int | None, Meta(description="MHz of the memory now")]
    throttle_reasons: Annotated[
        tuple[str, ...] | None, Meta(description="why clocks are held down now; empty when nothing holds them")
    ]
    processes: Annotated[tuple[GpuProcess, ...] | None, Meta(description="processes that hold memory on it")]
    missing: Annotated[
        dict[str, str], Meta(description="field -> reason, for each field that this device does not give")
    ] = {}
    pcie_generation: Annotated[int | None, Meta(description="PCIe generation of the link now; lower when idle")] = None
    pcie_generation_max: Annotated[int | None, Meta(description="that device and slot can have")] = None
    pcie_width: Annotated[int | None, Meta(description="PCIe lanes now")] = None
    pcie_width_max: Annotated[int | None, Meta(description="that device and slot can have")] = None
    ecc_uncorrected: Annotated[
        int | None, Meta(description="uncorrected memory errors since the driver was loaded")
    ] = None


class StepRow(NamedTuple):
    """One complete step, as the probe counted it; columns of wire.STEP_COLUMNS.

    backward_wait_s: of backward, s in which the training thread used no CPU: for other ranks, for a CPU, and where torch
    computes with several threads (OMP_WAIT_POLICY=passive) for those: compare it between ranks. None on CUDA.
    """

    t_end: float
    step_s: float
    flags: int
    micro_steps: int
    samples: float | None
    data_s: float | None
    backward_s: float | None
    optimizer_s: float | None
    backward_wait_s: float | None = None


class ProbeMessage(Struct, frozen=True):
    """One message of the probe in one rank, as it came off the wire (torchtop/probe/wire.py)."""

    t: Annotated[float, Meta(description="s, monotonic, when the monitor read it")]
    rank_pid: Annotated[int, Meta(description="pid of the target as the monitor sees it")]
    type: Annotated[
        str, Meta(description="facts, modules, sites, step, layers, pauses, allocator, memory, weights, health or bye")
    ]
    body: Annotated[dict[str, Any], Meta(description="the message; shapes in wire.py")]


class StackFrame(Struct, frozen=True):
    """One Python frame."""

    function: Annotated[str, Meta(description="function name")]
    file: Annotated[str, Meta(description="path as the target knows it")]
    line: Annotated[int, Meta(description="line number")]


class StackSample(Struct, frozen=True):
    """The Python stack of one thread. Source: `py-spy dump --json`."""

    t: Annotated[float, Meta(description="s, monotonic, when it was read")]
    rank_pid: Annotated[int, Meta(description="pid of the target")]
    thread: Annotated[str, Meta(description="thread name")]
    tid: Annotated[int | None, Meta(description="kernel thread id")]
    main: Annotated[bool, Meta(description="true for the thread whose tid is the pid")]
    active: Annotated[bool, Meta(description="false when py-spy judges the thread idle")]
    frames: Annotated[tuple[StackFrame, ...], Meta(description="innermost first")]


class StackTally(Struct, frozen=True):
    """How often one stack was seen in a burst."""

    frames: Annotated[tuple[StackFrame, ...], Meta(description="innermost first")]
    count: Annotated[int, Meta(description="samples")]


class StackBurst(Struct, frozen=True):
    """Many samples of one thread within some seconds. Source: `py-spy record --format raw`."""

    t: Annotated[float, Meta(description="s, monotonic, when it ended")]
    pid: Annotated[int, Meta(description="process id as the monitor sees it: a rank, or one of its loader workers")]
    seconds: Annotated[float, Meta(description="s that it took")]
    rate_hz: Annotated[float, Meta(description="samples a second that were asked for")]
    tallies: Annotated[tuple[StackTally, ...], Meta(description="most frequent first; idle moments counted")]
    reason: Annotated[str | None, Meta(description="why there is no sample; null when there are some")] = None


class CoreRates(Struct, frozen=True):
    """What one core of this machine's CPU reached when it was measured. Source: collectors/peak_rates.py."""

    torch: Annotated[str, Meta(description="version of the torch that computed")]
    measured: Annotated[str, Meta(description="RFC 3339 wall time of the measurement")]
    method: Annotated[str, Meta(description="how it was measured")]
    float32_flops_per_s: Annotated[float | None, Meta(description="FLOP/s of a float32 matrix product")]
    bfloat16_flops_per_s: Annotated[float | None, Meta(description="FLOP/s of a bfloat16 matrix product")]
    copy_bytes_per_s: Annotated[float | None, Meta(description="bytes/s, read and written, of a copy in memory")]
    missing: Annotated[dict[str, str], Meta(description="field -> why it could not be measured")]


class MachineSample(Struct, frozen=True):
    """How much of the CPU the job may use, and how fast it is. Source: /proc, /sys, the calibration's file."""

    t: Annotated[float, Meta(description="s, monotonic, when it was read")]
    usable_cores: Annotated[float | None, Meta(description="cores that the ranks here may use together")]
    usable_cores_because: Annotated[str, Meta(description="what sets that number")]
    core: Annotated[CoreRates | None, Meta(description="what one core reached; null: never measured")]


Sample = HostSample | Neighbours | ProcessSample | GpuSample | ProbeMessage | StackSample | StackBurst | MachineSample
