"""What the rules judge: the window at one moment, frozen. Made by `frozen.py`; imports only records.

Nothing in here changes, so a rule that is asked twice answers the same. Not measured is None, or an empty tuple where
there would be many; 0 is a measurement. Times are seconds, of CLOCK_MONOTONIC where they are moments; shares are 0..1.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from torchtop.record import GpuSample, HostSample, MachineSample, Neighbour, ProcessSample, StepRow
from torchtop.snapshot import Frame, Layer

PAUSES_KEPT = 4_000  # runs of the garbage collector, and saves, of each rank


class LoaderFacts(Struct, frozen=True, kw_only=True):
    """What a DataLoader was told."""

    workers: Annotated[int, Meta(description="worker processes, 0: the training thread itself loads")]
    pin_memory: Annotated[bool, Meta(description="batches are put into pinned memory")] = False
    persistent_workers: Annotated[bool, Meta(description="workers live on from epoch to epoch")] = False
    prefetch_factor: Annotated[int | None, Meta(description="batches that each worker prepares ahead")] = None
    dataset: Annotated[str | None, Meta(description="class of the dataset")] = None
    collate: Annotated[str | None, Meta(description="name of collate_fn")] = None
    batch_size: Annotated[int | None, Meta(description="samples of a batch; null for a batch sampler of its own")] = (
        None
    )
    drop_last: Annotated[bool, Meta(description="a last batch that is not full is dropped")] = False
    dataset_at: Annotated[Frame | None, Meta(description="where the dataset's __getitem__ or __iter__ begins")] = None
    collate_at: Annotated[Frame | None, Meta(description="where collate_fn begins; null for torch's own")] = None


class OptimizerFacts(Struct, frozen=True, kw_only=True, rename={"kind": "class"}):
    """One optimizer, as its first parameter group has it."""

    kind: Annotated[str, Meta(description="class name")]
    module: Annotated[
        str | None, Meta(description="module that the class is defined in: torch.optim... is torch's")
    ] = None
    groups: Annotated[int, Meta(description="parameter groups")] = 0
    parameters: Annotated[int, Meta(description="parameter tensors")] = 0
    elements: Annotated[int | None, Meta(description="elements of those tensors")] = None
    fused: Annotated[bool | None, Meta(description="param_groups[0]['fused']; null: not set, or has none")] = None
    foreach: Annotated[bool | None, Meta(description="param_groups[0]['foreach']; null: not set, torch chooses")] = None
    defaults: Annotated[dict[str, Any], Meta(description="plain settings")] = {}


class DistributedFacts(Struct, frozen=True, kw_only=True):
    """The process group and the DDP wrapper."""

    backend: Annotated[str, Meta(description="gloo, nccl, ...")]
    rank: Annotated[int, Meta(description="global rank")]
    world_size: Annotated[int, Meta(description="ranks")]


class Compilation(Struct, frozen=True, kw_only=True):
    """One function that dynamo compiled, of the last 64 compilations of the process."""

    at: Annotated[Frame, Meta(description="where the function begins")]
    count: Annotated[int, Meta(description="times that it was compiled")]
    seconds: Annotated[float, Meta(description="s that this took together")]
    reason: Annotated[str | None, Meta(description="why it was compiled again, the last time; null: it was not")] = None


class Facts(Struct, frozen=True, kw_only=True):
    """Settings of one rank; a field that its probe does not tell is None or empty."""

    threads: Annotated[int | None, Meta(description="torch.get_num_threads()")] = None
    matmul_precision: Annotated[str | None, Meta(description="highest, high or medium")] = None
    tf32_matmul: Annotated[bool | None, Meta(description="TF32 allowed in matrix products")] = None
    cudnn_benchmark: Annotated[bool | None, Meta(description="torch.backends.cudnn.benchmark")] = None
    cuda: Annotated[bool | None, Meta(description="CUDA was initialised in this process")] = None
    compiled_frames: Annotated[int, Meta(description="graphs that dynamo compiled so far")] = 0
    devices: Annotated[tuple[str, ...], Meta(description="device types of the parameters")] = ()
    dtypes: Annotated[tuple[str, ...], Meta(description="dtypes of the parameters")] = ()
    roots: Annotated[tuple[str, ...], Meta(description="classes of the root modules: wrappers show here")] = ()
    dropout_modules: Annotated[int, Meta(description="dropout modules with p > 0")] = 0
    autocast: Annotated[str | None, Meta(description="dtype of autocast in the forward pass; null: off, not seen")] = (
        None
    )
    autocast_seen: Annotated[
        bool, Meta(description="a forward pass was looked into: without autocast it is off, not just not seen")
    ] = False
    loader: Annotated[LoaderFacts | None, Meta(description="the DataLoader last iterated")] = None
    optimizers: Annotated[tuple[OptimizerFacts, ...], Meta(description="optimizers that stepped since attach")] = ()
    grad_scaler: Annotated[bool | None, Meta(description="a GradScaler is in use")] = None
    distributed: Annotated[DistributedFacts | None, Meta(description="process group, null without one")] = None
    environment: Annotated[dict[str, str], Meta(description="variables that matter, of those that are set")] = {}
    training_tid: Annotated[int | None, Meta(description="kernel id of the training thread, as the target sees it")] = (
        None
    )
    grads_kept: Annotated[
        bool | None,
        Meta(
            description="gradients of the step before were still there when backward began; null: not seen, or several optimizers"
        ),
    ] = None
    synced_passes: Annotated[
        float | None, Meta(description="backward passes per step in which DDP all-reduced; null: no DDP, not seen")
    ] = None
    find_unused_parameters: Annotated[bool | None, Meta(description="setting of DDP; null: no DDP")] = None
    compilations: Annotated[
        tuple[Compilation, ...], Meta(description="functions that dynamo compiled, most often first, 5 at most")
    ] = ()


class GcPause(Struct, frozen=True):
    """One run of Python's cyclic garbage collector on the training thread."""

    t: Annotated[float, Meta(description="s, monotonic, when it ended")]
    seconds: Annotated[float, Meta(description="s that it took")]
    generation: Annotated[int, Meta(description="0, 1 or 2: 2 looks at everything")]
    at: Annotated[
        Frame | None,
        Meta(description="innermost frame of the program, else of a library that is neither torch nor Python's own"),
    ]
    explicit: Annotated[
        bool, Meta(description="gc.collect() was called, as far as the counters tell; else an allocation set it off")
    ] = False


class Save(Struct, frozen=True):
    """One write of a checkpoint on the training thread: what the function took, not what is flushed or copied after it."""

    t: Annotated[float, Meta(description="s, monotonic, when it ended")]
    seconds: Annotated[float, Meta(description="s that it took")]
    function: Annotated[str, Meta(description="torch.save, safetensors.torch.save_file, ...")]
    at: Annotated[Frame | None, Meta(description="as in GcPause")]


class ZeroGrad(Struct, frozen=True):
    """Calls of zero_grad on the training thread in the window. Not seen in jobs that compile anything."""

    calls: Annotated[int, Meta(description="how many")]
    seconds: Annotated[float, Meta(description="s that they took together")]
    kept: Annotated[int, Meta(description="how many of them had set_to_none=False")]
    at: Annotated[
        Frame | None, Meta(description="the line that called it with set_to_none=False, and took longest")
    ] = None


class Phase(Struct, frozen=True):
    """Phases of one armed step, in s; None: never seen. Device time on CUDA as far as it is measured, else host time."""

    step_s: float
    data: float | None
    transfer: float | None
    forward: float | None
    backward: float | None
    optimizer: float | None
    communication: float | None
    other: float
    saving: float = 0.0
    """Of `other`, in checkpoints."""


class StackCount(Struct, frozen=True):
    """How often one Python stack was seen in the training thread during a burst of samples (py-spy)."""

    frames: Annotated[tuple[Frame, ...], Meta(description="innermost first")]
    count: Annotated[int, Meta(description="samples")]


class Stacks(Struct, frozen=True):
    """All bursts of the window of one process: the training thread of a rank, or the main thread of a loader worker."""

    pid: Annotated[int, Meta(description="process")]
    samples: Annotated[int, Meta(description="samples of that thread, idle ones counted")]
    rate_hz: Annotated[float, Meta(description="samples a second")]
    counts: Annotated[tuple[StackCount, ...], Meta(description="most frequent first")]


class WeightRow(Struct, frozen=True):
    """What a scan found in one parameter of two or more dimensions, or in any parameter that never had a gradient.

    Weights of torch.nn.utils.prune are what the module computes with: masked. Tied ones count once.
    """

    module: Annotated[str, Meta(description="shown name of its module, as in layers")]
    type: Annotated[str, Meta(description="class of its module")]
    name: Annotated[str, Meta(description="weight, bias, ...")]
    elements: Annotated[int, Meta(description="elements")]
    bytes: Annotated[int, Meta(description="bytes")]
    trainable: Annotated[bool, Meta(description="requires_grad")]
    had_gradient: Annotated[
        bool | None,
        Meta(description="a gradient was seen at any boundary looked at; null: in no optimizer that was looked at"),
    ]
    channels: Annotated[int | None, Meta(description="output channels; null where it has none, or not scanned")] = None
    channels_looked: Annotated[
        int | None,
        Meta(description="of those, that were read: of large ones every second, third ...; null: not scanned"),
    ] = None
    channels_near_zero: Annotated[
        int | None,
        Meta(
            description="of those, with a norm <= 1 % of the root mean square of the channel norms; null: not scanned"
        ),
    ] = None
    elements_looked: Annotated[
        int | None, Meta(description="elements that were compared: of large ones, some channels; null: not scanned")
    ] = None
    elements_near_zero: Annotated[
        int | None,
        Meta(description="of those, with an absolute value <= 1 % of the root mean square of all; null: not scanned"),
    ] = None
    norm: Annotated[float | None, Meta(description="2-norm; null: not scanned, or not finite")] = None
    changed: Annotated[
        bool | None, Meta(description="values changed although no gradient was seen; null: not looked again")
    ] = None
    called: Annotated[bool, Meta(description="false: of no module below one that the program calls")] = True


class Weights(Struct, frozen=True):
    """The last whole scan."""

    t: Annotated[float, Meta(description="s, monotonic, when it was complete")]
    boundaries: Annotated[int, Meta(description="step boundaries at which gradients were looked for")]
    rows: Annotated[tuple[WeightRow, ...], Meta(description="parameters")]
    elements: Annotated[int, Meta(description="elements of all parameters, those without a row too")] = 0
    optimized_elements: Annotated[
        int | None,
        Meta(description="elements of parameters with requires_grad in optimizers that were looked at; null: none was"),
    ] = None
    left_out: Annotated[dict[str, int], Meta(description="parameters that were not scanned, by reason")] = {}


class Allocator(Struct, frozen=True):
    """One reading of torch's CUDA caching allocator (torch.cuda.memory_stats)."""

    t: Annotated[float, Meta(description="s, monotonic")]
    allocated_bytes: Annotated[int, Meta(description="bytes in tensors")]
    reserved_bytes: Annotated[int, Meta(description="bytes held from the driver")]
    peak_bytes: Annotated[int, Meta(description="bytes in tensors at most, since the job began or reset it")]
    retries: Annotated[int, Meta(description="num_alloc_retries: cudaMalloc failed and the cache was freed")] = 0


class RankSeen(Struct, frozen=True, kw_only=True, dict=True):
    """One rank that is attached."""

    rank: Annotated[int | None, Meta(description="global rank")]
    pid: Annotated[int, Meta(description="process id as the monitor sees it")]
    steps: Annotated[
        tuple[StepRow, ...],
        Meta(
            description="complete steps of the window, all kinds: latest 4,000, of all but the slowest rank latest 500"
        ),
    ]
    plain: Annotated[
        tuple[StepRow, ...],
        Meta(
            description="of those: unarmed, and without compile, validation, checkpoint, first-of-epoch, idle, skipped"
        ),
    ]
    excluded: Annotated[dict[str, int], Meta(description="steps that are no plain ones, by reason")]
    phases: Annotated[tuple[Phase, ...], Meta(description="armed steps; of a compiled model one mean of plain steps")]
    phases_are: Annotated[
        Literal["cpu", "device", "host"] | None,
        Meta(description="host: a CUDA job whose phases are only known by the host's clock; null: none"),
    ]
    layers: Annotated[
        tuple[Layer, ...], Meta(description="of the slowest rank only: means over armed steps; no times on CUDA yet")
    ]
    layers_left_out: Annotated[int, Meta(description="modules not in `layers`")]
    batch_size: Annotated[float | None, Meta(description="samples per optimizer step, mean")]
    micro_batch_size: Annotated[
        int | None,
        Meta(
            description="samples of the first forward of a micro-step, latest; null: which inputs are samples is not known"
        ),
    ]
    micro_steps: Annotated[float | None, Meta(description="backward passes per optimizer step, mean")]
    loss: Annotated[float | None, Meta(description="latest sampled loss")]
    loss_finite: Annotated[bool | None, Meta(description="false: NaN or infinite")]
    training: Annotated[bool | None, Meta(description="null: no step seen")]
    compiled: Annotated[bool, Meta(description="compiled, and not looked into for that")]
    facts: Annotated[Facts, Meta(description="settings")]
    parameters_bytes: Annotated[int | None, Meta(description="bytes of parameters in optimizers")]
    gradients_bytes: Annotated[int | None, Meta(description="bytes of gradients at the boundary")]
    optimizer_bytes: Annotated[int | None, Meta(description="bytes of optimizer state")]
    allocator: Annotated[tuple[Allocator, ...], Meta(description="readings of the CUDA allocator; empty without one")]
    processes: Annotated[tuple[ProcessSample, ...], Meta(description="readings of the rank itself, oldest first")]
    workers: Annotated[
        dict[int, tuple[ProcessSample, ...]], Meta(description="pid -> readings of a loader worker that is alive")
    ]
    gc_pauses: Annotated[
        tuple[GcPause, ...],
        Meta(description="of the window, latest 4,000; generation 0, and what took less than 0.1 ms, left out"),
    ]
    gc_seconds: Annotated[
        float | None, Meta(description="s in all runs of the collector on that thread in the window; null: not seen")
    ]
    saves: Annotated[tuple[Save, ...], Meta(description="of the window, latest 4,000")]
    zero_grad: Annotated[ZeroGrad | None, Meta(description="null: never called, or not seen")]
    stacks: Annotated[tuple[Stacks, ...], Meta(description="bursts of the training thread, then of workers")]
    stacks_reason: Annotated[
        str | None, Meta(description="why bursts failed; null: there are some, or none was taken lately")
    ]
    weights: Annotated[Weights | None, Meta(description="null: not scanned")]
    weights_reason: Annotated[str | None, Meta(description="why not, where that is known")] = None
    watched_s: Annotated[float, Meta(description="s since this rank was attached to")]

    @cached_property
    def plain_mean_s(self) -> float | None:
        """s, mean of the plain steps."""
        return sum(row.step_s for row in self.plain) / len(self.plain) if self.plain else None

    @cached_property
    def held_bytes(self) -> tuple[tuple[float, int], ...]:
        """(s, bytes) of each reading: host memory that the kernel cannot take back without swapping."""
        return tuple([(one.t, held) for one in self.processes if (held := one.held_bytes) is not None])

    @property
    def own_stacks(self) -> Stacks | None:
        """Stacks of its training thread, None where none were taken."""
        return next((stacks for stacks in self.stacks if stacks.pid == self.pid), None)

    @property
    def on_cuda(self) -> bool:
        """Whether its parameters are on a CUDA device."""
        return "cuda" in self.facts.devices

    @property
    def window_s(self) -> float:
        """s that its steps span."""
        return self.steps[-1].t_end - self.steps[0].t_end + self.steps[0].step_s if self.steps else 0.0


class DeviceSeen(Struct, frozen=True, kw_only=True):
    """One GPU or MIG instance."""

    readings: Annotated[tuple[GpuSample, ...], Meta(description="oldest first, one or more")]
    peak_flops_per_s: Annotated[dict[str, float] | None, Meta(description="FLOP/s by dtype, as published")] = None
    peak_memory_bytes_per_s: Annotated[float | None, Meta(description="bytes/s, as published")] = None
    job_pids: Annotated[tuple[int, ...], Meta(description="processes of this job that hold memory on it")] = ()


class Seen(Struct, frozen=True, kw_only=True, dict=True):
    """One job at one moment."""

    window_s: Annotated[float, Meta(description="s watched")]
    now: Annotated[float, Meta(description="s, monotonic, the end of the window")]
    world_size: Annotated[int | None, Meta(description="ranks of the whole job, all machines")]
    ranks: Annotated[tuple[RankSeen, ...], Meta(description="attached ranks of this machine, in order of rank")]
    slowest: Annotated[int, Meta(description="place in `ranks` of the slowest; 0 when none has steps")]
    mode: Annotated[Literal["training", "inference", "idle"] | None, Meta(description="as in job.mode")]
    host: Annotated[tuple[HostSample, ...], Meta(description="readings, oldest first")]
    neighbours: Annotated[
        tuple[Neighbour, ...] | None,
        Meta(description="busiest processes that are not the job's, means over the last minute; null: not read"),
    ]
    devices: Annotated[tuple[DeviceSeen, ...], Meta(description="GPUs and MIG instances")]
    devices_reason: Annotated[str | None, Meta(description="why there are none")]
    machine: Annotated[MachineSample | None, Meta(description="peak rates of the CPU; null: never calibrated")]
    usable_cores: Annotated[float | None, Meta(description="cores that the ranks may use together")]

    @property
    def slow(self) -> RankSeen | None:
        """The slowest rank: its time is the job's."""
        return self.ranks[self.slowest] if self.ranks else None

    @property
    def step_s(self) -> float | None:
        """s, mean of the plain steps of the slowest rank."""
        return self.slow.plain_mean_s if self.slow is not None else None

    @property
    def on_gpu(self) -> bool:
        """Whether the job computes on a GPU: without one, nothing is to be said of feeding it."""
        return any(rank.on_cuda for rank in self.ranks)

    @property
    def memory_limit_bytes(self) -> int | None:
        """bytes that the slowest rank may use on the host: its cgroup's limit or the machine's memory."""
        own = self.slow.processes if self.slow is not None else ()
        limits = [own[-1].cgroup_memory_limit_bytes if own else None, self.host[-1].memory_bytes if self.host else None]
        return min((limit for limit in limits if limit), default=None)
