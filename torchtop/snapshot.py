"""The one document that leaves torchtop: schema `torchtop.snapshot/1`. Imports nothing of ours.

Names are API: fields are added, never renamed. Absent is None, never 0. Every array is complete or has
`<name>_left_out`. Shares are 0..1, times are seconds, sizes are bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct


class Machine(Struct, frozen=True, kw_only=True):
    """Peak rates of the CPU: of one core as measured by `torchtop doctor --calibrate`, times the cores to be had."""

    usable_cores: Annotated[float | None, Meta(description="cores that the ranks here may use together")]
    usable_cores_because: Annotated[str, Meta(description="what sets that number: affinity or a cgroup's quota")]
    float32_flops_per_s: Annotated[float | None, Meta(description="FLOP/s in float32, one core's times usable_cores")]
    bfloat16_flops_per_s: Annotated[float | None, Meta(description="FLOP/s in bfloat16, one core's times usable_cores")]
    copy_bytes_per_s: Annotated[
        float | None,
        Meta(description="bytes/s, one core's times usable_cores: an upper bound, as cores share the memory"),
    ]
    core_float32_flops_per_s: Annotated[float | None, Meta(description="FLOP/s of one core in float32")]
    core_bfloat16_flops_per_s: Annotated[float | None, Meta(description="FLOP/s of one core in bfloat16")]
    core_copy_bytes_per_s: Annotated[float | None, Meta(description="bytes/s of one core, read and written")]
    method: Annotated[str, Meta(description="how one core was measured")]
    measured: Annotated[str, Meta(description="RFC 3339 wall time of the measurement")]
    torch: Annotated[str, Meta(description="version of the torch that it was measured with")]
    missing: Annotated[dict[str, str], Meta(description="field -> why it could not be measured")]


class Host(Struct, frozen=True, kw_only=True):
    """The machine."""

    hostname: Annotated[str, Meta(description="name of the machine")]
    cpus: Annotated[int | None, Meta(description="logical CPUs")]
    cpu_model: Annotated[str | None, Meta(description="model name of /proc/cpuinfo")]
    memory_bytes: Annotated[int | None, Meta(description="bytes of physical memory")]
    memory_available_bytes: Annotated[int | None, Meta(description="bytes that can be had without swapping, latest")]
    swap_used_bytes: Annotated[int | None, Meta(description="bytes of swap in use, latest")]
    cpu_util: Annotated[float | None, Meta(description="0..1 of all CPUs, mean of the window")]
    load1: Annotated[float | None, Meta(description="run-queue length, 1-minute average, latest")]
    cpu_pressure: Annotated[float | None, Meta(description="0..1, PSI some avg10 of cpu, latest")]
    memory_pressure: Annotated[float | None, Meta(description="0..1, PSI some avg10 of memory, latest")]
    io_pressure: Annotated[float | None, Meta(description="0..1, PSI some avg10 of io, latest")]
    disk_read_bytes_per_s: Annotated[float | None, Meta(description="bytes/s, mean of the window")]
    disk_write_bytes_per_s: Annotated[float | None, Meta(description="bytes/s, mean of the window")]
    net_receive_bytes_per_s: Annotated[float | None, Meta(description="bytes/s, mean of the window, without loopback")]
    net_send_bytes_per_s: Annotated[float | None, Meta(description="bytes/s, mean of the window, without loopback")]
    machine: Annotated[
        Machine | None, Meta(description="peak rates of the CPU; null until measured, see health.collectors")
    ] = None


class DeviceProcess(Struct, frozen=True, kw_only=True):
    """A process that holds memory on a device."""

    pid: Annotated[int, Meta(description="process id in the host's PID namespace")]
    memory_bytes: Annotated[int | None, Meta(description="bytes of device memory it holds")]


class Device(Struct, frozen=True, kw_only=True):
    """A GPU, or one MIG instance of it. Means are over the window, the rest is the latest reading."""

    index: Annotated[int, Meta(description="NVML index of the physical device")]
    mig_index: Annotated[int | None, Meta(description="index of the MIG instance, null for a whole device")]
    uuid: Annotated[str | None, Meta(description="GPU-... or MIG-...")]
    name: Annotated[str | None, Meta(description="product name")]
    util: Annotated[float | None, Meta(description="0..1, mean share of time in which any kernel ran")]
    memory_util: Annotated[float | None, Meta(description="0..1, mean share of time in which memory was accessed")]
    memory_used_bytes: Annotated[int | None, Meta(description="bytes of device memory in use")]
    memory_total_bytes: Annotated[int | None, Meta(description="bytes of device memory")]
    power_w: Annotated[float | None, Meta(description="W, mean of the window")]
    power_limit_w: Annotated[float | None, Meta(description="W, enforced limit")]
    energy_j: Annotated[float | None, Meta(description="J spent during the window")]
    temperature_c: Annotated[float | None, Meta(description="degrees C")]
    sm_clock_mhz: Annotated[int | None, Meta(description="MHz of the SMs")]
    sm_clock_max_mhz: Annotated[int | None, Meta(description="MHz of the SMs at most")]
    memory_clock_mhz: Annotated[int | None, Meta(description="MHz of the memory")]
    throttle_reasons: Annotated[tuple[str, ...] | None, Meta(description="why clocks were held down in the window")]
    peak_flops_per_s: Annotated[
        dict[str, float] | None,
        Meta(description="FLOP/s by dtype (float32, tf32, bfloat16, float16, float8), dense, as the vendor publishes"),
    ] = None
    peak_memory_bytes_per_s: Annotated[
        float | None, Meta(description="bytes/s of device memory, as the vendor publishes")
    ] = None
    processes: Annotated[tuple[DeviceProcess, ...] | None, Meta(description="processes that hold memory on it")]
    missing: Annotated[dict[str, str], Meta(description="field -> why this device does not give it")]


class Attach(Struct, frozen=True, kw_only=True):
    """How a rank was attached to, and what that cost it."""

    method: Annotated[str, Meta(description="ptrace, ptrace-thread, remote-exec, gdb, cooperative or live-agent")]
    hello_s: Annotated[
        float | None, Meta(description="s from the first system call on the target to the probe's hello")
    ]
    pause_s: Annotated[float | None, Meta(description="s for which the main thread was stopped; null when it was not")]


class Rank(Struct, frozen=True, kw_only=True):
    """One process of the job."""

    rank: Annotated[int | None, Meta(description="global rank, null when the process does not say")]
    local_rank: Annotated[int | None, Meta(description="rank on this machine")]
    pid: Annotated[int, Meta(description="process id as the monitor sees it")]
    python: Annotated[str | None, Meta(description="interpreter version")]
    torch: Annotated[str | None, Meta(description="torch version")]
    device: Annotated[str | None, Meta(description="device type of the parameters: cpu, cuda, ...")]
    state: Annotated[
        Literal["attached", "outside", "lost"],
        Meta(description="attached; outside: seen without a probe; lost: it ended or stopped answering"),
    ]
    reason: Annotated[str | None, Meta(description="why it is not attached, or what is being waited for")]
    attach: Annotated[Attach | None, Meta(description="how it was attached to; null without a probe")]
    cpu_share: Annotated[float | None, Meta(description="cores used by the rank itself, mean of the window")]
    workers: Annotated[int | None, Meta(description="its DataLoader worker processes alive at the end of the window")]
    workers_cpu_share: Annotated[
        float | None, Meta(description="cores used by its worker processes together, mean of the window")
    ]
    rss_bytes: Annotated[int | None, Meta(description="bytes of resident memory, latest")]
    threads: Annotated[int | None, Meta(description="threads, latest")]
    read_bytes_per_s: Annotated[float | None, Meta(description="bytes/s read from storage, rank and workers")]
    involuntary_switches_per_s: Annotated[float | None, Meta(description="1/s, times it was descheduled")]
    stage: Annotated[
        Literal["attaching", "reconnecting", "ended", "replaced"] | None,
        Meta(description="what is going on with one that is not attached; replaced: ended, and started anew"),
    ] = None
    process_state: Annotated[
        str | None, Meta(description="one letter of /proc/PID/stat, latest: T and t are stopped")
    ] = None
    cgroup_memory_bytes: Annotated[int | None, Meta(description="bytes that its cgroup uses, latest")] = None
    cgroup_memory_limit_bytes: Annotated[int | None, Meta(description="bytes its cgroup may use, null: no limit")] = (
        None
    )


class Job(Struct, frozen=True, kw_only=True):
    """All ranks of one run, as far as they are on this machine."""

    id: Annotated[str, Meta(description="stable while the job runs: launcher or rank pid and its start time")]
    command: Annotated[str, Meta(description="command line of the target")]
    mode: Annotated[
        Literal["training", "inference", "idle"] | None,
        Meta(description="what its steps are; idle: none seen; null: no probe to see them"),
    ]
    world_size: Annotated[int | None, Meta(description="ranks of the whole job, all machines")]
    ranks: Annotated[tuple[Rank, ...], Meta(description="ranks on this machine")]
    ranks_left_out: Annotated[
        int, Meta(description="ranks on this machine that are not in `ranks`, as only one was asked for")
    ]


class Phases(Struct, frozen=True, kw_only=True):
    """Where one step's time goes; the phases that were measured, and `other`, sum to `sampled_mean_s`."""

    data: Annotated[float | None, Meta(description="s per step blocked in the DataLoader's iterator")]
    transfer: Annotated[float | None, Meta(description="s per step in host-to-device copies")]
    forward: Annotated[
        float | None, Meta(description="s per step in root modules, and computing the loss from what they return")
    ]
    backward: Annotated[float | None, Meta(description="s per step in torch.autograd.backward")]
    optimizer: Annotated[
        float | None, Meta(description="s per step in Optimizer.step, without forward and backward inside it")
    ]
    communication: Annotated[float | None, Meta(description="s per step waiting for collectives that nothing hides")]
    other: Annotated[float | None, Meta(description="s per step in none of the above")]


class Distribution(Struct, frozen=True, kw_only=True):
    """Step times of one rank."""

    rank: Annotated[int | None, Meta(description="global rank")]
    pid: Annotated[int, Meta(description="process id")]
    count: Annotated[int, Meta(description="complete steps seen, all kinds")]
    mean_s: Annotated[float | None, Meta(description="s, unarmed and not excluded")]
    median_s: Annotated[float | None, Meta(description="s, unarmed and not excluded")]
    p95_s: Annotated[float | None, Meta(description="s, unarmed, excluded ones counted")]
    samples_per_s: Annotated[float | None, Meta(description="samples/s of this rank, over all complete steps")]
    sampled: Annotated[int, Meta(description="armed steps that phases and layers were taken from; 0 when compiled")]
    sampled_mean_s: Annotated[
        float | None,
        Meta(description="s, mean of the armed steps, less the probe's own time in them; of all when compiled"),
    ]
    phases_s: Annotated[Phases | None, Meta(description="phases of the armed steps")]


class Steps(Struct, frozen=True, kw_only=True):
    """Steps of the job: those of its slowest rank, and each rank in `by_rank`."""

    pid: Annotated[
        int | None, Meta(description="process id of the slowest rank; of those within 2 % of it, the first")
    ] = None
    count: Annotated[
        int | None,
        Meta(description="complete steps seen; null without a probe; of more than 20,000 the latest make the numbers"),
    ]
    total: Annotated[
        int | None, Meta(description="complete steps since attach, before the window too; null without a probe")
    ] = None
    mean_s: Annotated[float | None, Meta(description="s, mean of unarmed steps that are not excluded")]
    median_s: Annotated[float | None, Meta(description="s, median of the same steps")]
    p95_s: Annotated[float | None, Meta(description="s, 95th percentile of unarmed steps, excluded ones counted")]
    samples_per_s: Annotated[
        float | None, Meta(description="samples/s, sum of the attached ranks, over all complete steps")
    ]
    tokens_per_s: Annotated[float | None, Meta(description="tokens/s, where inputs are (batch, sequence) integers")]
    batch_size: Annotated[float | None, Meta(description="samples per optimizer step and rank, mean")]
    micro_batch_size: Annotated[int | None, Meta(description="samples per forward, latest")]
    micro_steps: Annotated[float | None, Meta(description="backward passes per optimizer step, mean")]
    loss: Annotated[
        float | None, Meta(description="latest sampled loss, as given to backward; the GradScaler's factor removed")
    ]
    loss_finite: Annotated[bool | None, Meta(description="false when the latest sampled loss was NaN or infinite")]
    reasons: Annotated[dict[str, str], Meta(description="field -> why it is null")]
    compiled: Annotated[bool, Meta(description="true when the model is compiled, and not looked into for that")] = False
    excluded: Annotated[dict[str, int], Meta(description="steps kept out of mean and median, by reason")]
    sampled: Annotated[int, Meta(description="armed steps that phases and layers were taken from; 0 when compiled")]
    sampled_mean_s: Annotated[
        float | None,
        Meta(description="s, mean of the armed steps, less the probe's own time in them; of all when compiled"),
    ]
    phases_s: Annotated[Phases | None, Meta(description="phases of the armed steps; null when none was armed")]
    host_phases_s: Annotated[
        Phases | None, Meta(description="the same phases by the host's clock; null on CPU, where they are the same")
    ]
    phase_reasons: Annotated[dict[str, str], Meta(description="phase -> why it is null")]
    overlapped_communication_s: Annotated[
        float | None, Meta(description="s per step of collectives hidden behind compute")
    ]
    began: Annotated[
        float | None, Meta(description="s, CLOCK_MONOTONIC of the machine, when the first complete step began")
    ]
    ended: Annotated[
        float | None, Meta(description="s, CLOCK_MONOTONIC of the machine, when the last complete step ended")
    ]
    by_rank: Annotated[tuple[Distribution, ...], Meta(description="one entry for each attached rank")]


class Frame(Struct, frozen=True, kw_only=True):
    """One Python frame."""

    function: Annotated[str, Meta(description="function name")]
    file: Annotated[str, Meta(description="path as the target knows it")]
    line: Annotated[int, Meta(description="line number")]


class Layer(Struct, frozen=True, kw_only=True):
    """One module, per armed step."""

    rank: Annotated[int | None, Meta(description="global rank")]
    name: Annotated[str, Meta(description="named_modules() name without wrapper parts; '' is the root")]
    type: Annotated[str, Meta(description="class name")]
    calls: Annotated[float, Meta(description="forward calls per step, recomputation not counted")]
    forward_s: Annotated[float | None, Meta(description="s per step, children included")]
    backward_s: Annotated[float | None, Meta(description="s per step, children included")]
    self_forward_s: Annotated[float | None, Meta(description="s per step, children excluded")]
    self_backward_s: Annotated[float | None, Meta(description="s per step, children excluded")]
    recompute_s: Annotated[
        float | None, Meta(description="s per step of forward done again in backward (checkpointing); null when none")
    ]
    share: Annotated[float | None, Meta(description="0..1, self forward + self backward, of sampled_mean_s")]
    parameters: Annotated[int, Meta(description="parameters of the module itself, children excluded")]
    parameter_bytes: Annotated[int, Meta(description="bytes of those parameters")]
    activation_bytes: Annotated[
        int | None, Meta(description="bytes per step of outputs that require grad, of leaf modules")
    ]
    output_shape: Annotated[tuple[int, ...] | None, Meta(description="shape of the first output tensor, latest")]
    flops: Annotated[
        float | None,
        Meta(description="floating-point operations of the forward per step; null for types without a formula"),
    ]
    dtype: Annotated[str | None, Meta(description="dtype of the first output tensor")]
    called_at: Annotated[
        tuple[Frame, ...] | None,
        Meta(description="frames outside torch that made its first call, innermost first, 6 at most; null: not seen"),
    ] = None
    flops_per_s: Annotated[
        float | None, Meta(description="FLOP/s of its own forward; null without formula or time")
    ] = None
    bytes_per_s: Annotated[
        float | None, Meta(description="bytes/s of its own forward, at least: weights, outputs, known inputs once each")
    ] = None
    bound_by: Annotated[
        Literal["compute", "bandwidth", "overhead"] | None,
        Meta(description="what its forward is nearest to; overhead: a short call far from both; null without formula"),
    ] = None
    bound_share: Annotated[float | None, Meta(description="0..1, the larger of both rates by its peak")] = None
    bound_peaks: Annotated[
        str | None, Meta(description="whose peaks: calibrated, published, or best layer of this job")
    ] = None


class Memory(Struct, frozen=True, kw_only=True):
    """What memory is made of: of the slowest rank."""

    parameters_bytes: Annotated[int | None, Meta(description="bytes of parameters")]
    gradients_bytes: Annotated[int | None, Meta(description="bytes of gradients that exist at the step boundary")]
    optimizer_bytes: Annotated[int | None, Meta(description="bytes of optimizer state")]
    activations_bytes: Annotated[int | None, Meta(description="bytes kept for backward; null on CPU")]
    other_bytes: Annotated[int | None, Meta(description="bytes in use that are none of the above")]
    used_bytes: Annotated[int | None, Meta(description="bytes in use: resident memory on CPU, allocated on CUDA")]
    reserved_bytes: Annotated[int | None, Meta(description="bytes reserved by the CUDA allocator")]
    peak_bytes: Annotated[
        int | None, Meta(description="bytes, highest reading in the window; the allocator's peak on CUDA")
    ]
    limit_bytes: Annotated[
        int | None, Meta(description="bytes: device memory, or the smaller of cgroup limit and physical memory")
    ]
    reasons: Annotated[dict[str, str], Meta(description="field -> why it is null")]


class Stack(Struct, frozen=True, kw_only=True):
    """The Python stack of one thread at one moment of the window."""

    rank: Annotated[int | None, Meta(description="global rank")]
    pid: Annotated[int, Meta(description="process id")]
    thread: Annotated[str, Meta(description="thread name")]
    main: Annotated[bool, Meta(description="true for the main thread")]
    active: Annotated[bool, Meta(description="false when the thread was idle")]
    frames: Annotated[tuple[Frame, ...], Meta(description="innermost first")]


class DeviceHistory(Struct, frozen=True, kw_only=True):
    """Readings of one device, oldest first; null where a reading failed."""

    index: Annotated[int, Meta(description="NVML index of the physical device")]
    mig_index: Annotated[int | None, Meta(description="index of the MIG instance, null for a whole device")]
    util: Annotated[tuple[float | None, ...], Meta(description="0..1, share of time in which any kernel ran")]
    memory_used_bytes: Annotated[tuple[int | None, ...], Meta(description="bytes of device memory in use")]
    power_w: Annotated[tuple[float | None, ...], Meta(description="W")]


class LayerHistory(Struct, frozen=True, kw_only=True):
    """One module in each armed step of the window, oldest first, children excluded; null where it was not called."""

    pid: Annotated[int, Meta(description="process id of its rank")]
    name: Annotated[str, Meta(description="as in `layers`")]
    self_forward_s: Annotated[tuple[float | None, ...], Meta(description="s in that step")]
    self_backward_s: Annotated[tuple[float | None, ...], Meta(description="s in that step")]


class History(Struct, frozen=True, kw_only=True):
    """What a screen draws as curves: the latest readings, oldest first; null where a reading failed."""

    step_s: Annotated[tuple[float, ...], Meta(description="s, latest complete steps of the slowest rank, all kinds")]
    cpu_util: Annotated[tuple[float | None, ...], Meta(description="0..1 of all CPUs, about one reading a second")]
    cores: Annotated[
        tuple[float | None, ...], Meta(description="cores used by all ranks here and their workers, as often")
    ]
    rss_bytes: Annotated[tuple[int | None, ...], Meta(description="bytes, resident memory of the slowest rank")]
    devices: Annotated[tuple[DeviceHistory, ...], Meta(description="in the order of `devices`")]
    layer: Annotated[LayerHistory | None, Meta(description="the layer that the screen looks at; null for none")]


class Evidence(Struct, frozen=True, kw_only=True):
    """One number that a finding was made from."""

    name: Annotated[str, Meta(description="what was measured")]
    value: Annotated[float, Meta(description="the number")]
    unit: Annotated[str, Meta(description="its unit")]
    window_s: Annotated[float, Meta(description="s over which it was measured")]
    low: Annotated[
        float | None, Meta(description="low end of its 95 % interval; null: a reading, count or setting")
    ] = None
    high: Annotated[float | None, Meta(description="high end of it")] = None


class Finding(Struct, frozen=True, kw_only=True):
    """A bad pattern, with its numbers."""

    code: Annotated[str, Meta(description="stable rule code")]
    severity: Annotated[Literal["info", "warn", "critical"], Meta(description="how bad")]
    confidence: Annotated[Literal["low", "medium", "high"], Meta(description="how sure")]
    recoverable_s: Annotated[float | None, Meta(description="s per step that a cure could give back at most")]
    evidence: Annotated[tuple[Evidence, ...], Meta(description="the numbers")]
    summary: Annotated[str, Meta(description="one sentence")]
    where: Annotated[dict[str, Any], Meta(description="layer, rank, file, line: as far as known")]
    remedies: Annotated[tuple[str, ...], Meta(description="names of remedies that may cure it")]
    share: Annotated[
        float | None, Meta(description="0..1 of the step, or of the memory or the parameters that it is about")
    ] = None


class Abstention(Struct, frozen=True, kw_only=True):
    """A rule that could not be judged."""

    code: Annotated[str, Meta(description="stable rule code")]
    reason: Annotated[str, Meta(description="what was missing")]


class CollectorHealth(Struct, frozen=True, kw_only=True):
    """Whether a source is read, and what that costs."""

    name: Annotated[str, Meta(description="host, process, neighbours, gpu, probe, stacks, machine, or advisor")]
    state: Annotated[Literal["on", "off"], Meta(description="off: see reason")]
    reason: Annotated[str | None, Meta(description="why it is off, or what failed last")]
    failures: Annotated[int, Meta(description="reads that failed")]
    mean_s: Annotated[float | None, Meta(description="s per read, or look of the advisor")]


class ProbeHealth(Struct, frozen=True, kw_only=True):
    """What watching costs the target: of the rank that pays most."""

    cost_share: Annotated[
        float | None, Meta(description="0..1 of step time spent in the probe, measured by the probe itself")
    ]
    sampled_steps: Annotated[int, Meta(description="steps armed since attach")]
    every: Annotated[int | None, Meta(description="one step in this many is armed; adapts to the budget")]
    dropped: Annotated[int, Meta(description="messages or events dropped by full queues")]
    errors: Annotated[int, Meta(description="exceptions caught inside the probe")]
    left_behind: Annotated[tuple[str, ...], Meta(description="what a detach could not remove, and why")]


class MonitorHealth(Struct, frozen=True, kw_only=True):
    """What torchtop itself costs."""

    cpu_share: Annotated[float | None, Meta(description="cores used since watching began (1.0 = one core)")]
    rss_bytes: Annotated[int | None, Meta(description="bytes of resident memory")]
    late_ticks: Annotated[int, Meta(description="readings skipped because the monitor was late")]
    dropped: Annotated[int, Meta(description="readings dropped by full queues")]


class Health(Struct, frozen=True, kw_only=True):
    """Whether to trust the rest."""

    collectors: Annotated[tuple[CollectorHealth, ...], Meta(description="one row for each source")]
    probe: Annotated[ProbeHealth | None, Meta(description="null without a probe")]
    monitor: Annotated[MonitorHealth, Meta(description="torchtop's own cost")]


class Snapshot(Struct, frozen=True, kw_only=True):
    """Everything torchtop knows about one job over one window."""

    schema: Annotated[Literal["torchtop.snapshot/1"], Meta(description="name and major version of this format")] = (
        "torchtop.snapshot/1"
    )
    version: Annotated[str, Meta(description="version of torchtop that wrote it")]
    taken: Annotated[str, Meta(description="RFC 3339 wall time at the end of the window")]
    window_s: Annotated[float, Meta(description="s watched; means and counts are over this window")]
    host: Annotated[Host, Meta(description="the machine")]
    devices: Annotated[tuple[Device, ...], Meta(description="GPUs and MIG instances; empty when there is none to read")]
    job: Annotated[Job, Meta(description="the job and its ranks")]
    steps: Annotated[Steps, Meta(description="step times and phases")]
    layers: Annotated[tuple[Layer, ...], Meta(description="modules, in the order of named_modules()")]
    layers_left_out: Annotated[int, Meta(description="modules not in `layers`")]
    memory: Annotated[Memory, Meta(description="what memory is made of")]
    stacks: Annotated[tuple[Stack, ...], Meta(description="Python stacks at one moment of the window")]
    stacks_left_out: Annotated[int, Meta(description="threads not in `stacks`")]
    facts: Annotated[dict[str, Any], Meta(description="settings of the job: optimizer, loader, precision, wrappers")]
    findings: Annotated[tuple[Finding, ...], Meta(description="what holds the job back, worst first")]
    abstained: Annotated[tuple[Abstention, ...], Meta(description="rules that could not be judged, and why")]
    proposals: Annotated[tuple[dict[str, Any], ...], Meta(description="remedies planned for this job")]
    journal: Annotated[tuple[dict[str, Any], ...], Meta(description="what was changed in this job")]
    history: Annotated[History | None, Meta(description="for a screen; null in an export")] = None
    health: Annotated[Health, Meta(description="whether to trust the rest")]
