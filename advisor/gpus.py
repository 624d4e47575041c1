"""The GPUs of the job: which they are, and their readings while steps went on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from torchtop.advisor import place
from torchtop.advisor.judgement import Abstain, Confidence, Judgement
from torchtop.advisor.statistics import Interval, interval
from torchtop.record import GpuSample
from torchtop.seen import DeviceSeen, RankSeen, Seen
from torchtop.snapshot import Finding

FEWEST = 10  # readings, one a second: fewer and one checkpoint decides the mean
_LATEST = 120  # readings that are judged: two minutes
_KEPT_STEPS = 4_000  # of a rank at most (RankSeen.steps)
_BUSY = 0.5  # utilization: the clocks and the link of a GPU that does less are those of one that rests
_STRAY = 0.1  # of the memory that the rank holds on its first GPU: less is a mere context, from a torch.load mostly


class Gpu(NamedTuple):
    """One GPU of the job; readings: those between the beginning of its rank's first step and the end of the last."""

    device: DeviceSeen
    rank: RankSeen
    readings: tuple[GpuSample, ...]

    @property
    def latest(self) -> GpuSample:
        """The last reading of all."""
        return self.device.readings[-1]

    @property
    def span_s(self) -> float:
        """s that its readings span."""
        return self.readings[-1].t - self.readings[0].t if self.readings else 0.0

    @property
    def rests(self) -> bool:
        """Whether it was read often enough, and had too little to do to be judged by what it does under load."""
        util = [one.util for one in self.readings if one.util is not None]
        return len(util) >= FEWEST and sum(one >= _BUSY for one in util) < FEWEST

    @property
    def label(self) -> str:
        """Its name for a person."""
        latest = self.latest
        return f"GPU {latest.index}" if latest.mig_index is None else f"MIG {latest.mig_index} of GPU {latest.index}"

    @property
    def where(self) -> dict[str, object]:
        """Its place in a finding."""
        where = place.of(self.rank) | {"device": self.latest.index}
        return where if self.latest.mig_index is None else where | {"mig": self.latest.mig_index}

    def values(self, of: Callable[[GpuSample], float | None], busy: bool = False) -> list[float]:
        """What `of` says of each reading, or of those in which the GPU worked; without those where it says None."""
        told = [of(one) for one in self.readings if not busy or (one.util or 0.0) >= _BUSY]
        return [float(one) for one in told if one is not None]

    def mean(self, field: str, of: Callable[[GpuSample], float | None], busy: bool = False) -> Interval | Abstain:
        """Mean of `of` with its interval. field: what it reads, to say why it is missing."""
        found = self.values(of, busy)
        if not found:
            return Abstain(self.latest.missing.get(field) or f"{self.label} was not read while steps went on")
        mean = interval(found) if len(found) >= FEWEST else None
        return mean if mean is not None else Abstain(f"{len(found)} of {FEWEST} readings of {self.label}")


def idle(one: GpuSample) -> float | None:
    """Share of the time in which no kernel ran."""
    return None if one.util is None else 1.0 - one.util


def of_limit(one: GpuSample) -> float | None:
    """Power, as a share of the limit."""
    return one.power_w / one.power_limit_w if one.power_w is not None and one.power_limit_w else None


def clock(one: GpuSample) -> float | None:
    """The SM clock, as a share of its maximum."""
    return one.sm_clock_mhz / one.sm_clock_max_mhz if one.sm_clock_mhz is not None and one.sm_clock_max_mhz else None


def of_rank(seen: Seen, rank: RankSeen) -> tuple[Gpu, ...] | Abstain:
    """The GPUs that a rank computes on, the one that holds most of its memory first; at least one."""
    devices = _undivided(seen)
    held = [(_held(device, rank.pid), device) for device in devices if rank.pid in device.job_pids]
    if not held:
        # In a container the driver names processes by the host's numbers, or none at all.
        told = _by_environment(devices, rank.facts.environment)
        if told is not None:
            return (_gpu(told, rank),)
        return Abstain(f"which of {len(devices)} GPUs rank {rank.rank} uses is not known: the driver does not name it")
    held.sort(key=lambda one: -one[0])
    return tuple(_gpu(device, rank) for held_bytes, device in held if held_bytes >= _STRAY * held[0][0])


def first_of(seen: Seen, rank: RankSeen) -> Gpu | Abstain:
    """The GPU that holds most of a rank's device memory."""
    gpus = of_rank(seen, rank)
    return gpus if isinstance(gpus, Abstain) else gpus[0]


def published(gpu: Gpu) -> Mapping[str, float] | Abstain:
    """Peak rates by dtype, in operations per second, as the vendor gives them; at least one."""
    told = gpu.device.peak_flops_per_s
    return told or Abstain(f"no published peak rates of {gpu.latest.name or gpu.label} are known")


def of_job(seen: Seen) -> tuple[Gpu, ...] | Abstain:
    """The GPUs of all attached ranks, each once; at least one."""
    found: dict[tuple[int, int | None], Gpu] = {}
    missing: Abstain | None = None
    for rank in seen.ranks:
        gpus = of_rank(seen, rank)
        if isinstance(gpus, Abstain):
            missing = gpus
            continue
        for gpu in gpus:
            found.setdefault((gpu.latest.index, gpu.latest.mig_index), gpu)
    return tuple(found.values()) or missing or Abstain("no rank is attached")


def judged(seen: Seen, judge: Callable[[Seen, Gpu], Judgement]) -> tuple[list[Finding], Abstain | None]:
    """What `judge` finds on each GPU of the job, and the first reason why it could not say."""
    gpus = of_job(seen)
    if isinstance(gpus, Abstain):
        return [], gpus
    answers = [judge(seen, gpu) for gpu in gpus]
    found = [one for one in answers if isinstance(one, Finding)]
    return found, next((one for one in answers if isinstance(one, Abstain)), None)


def _undivided(seen: Seen) -> list[DeviceSeen]:
    """GPUs, and instances of those that are divided: no process computes on such a one as a whole."""
    divided = {one.readings[-1].index for one in seen.devices if one.readings[-1].mig_index is not None}
    return [
        one for one in seen.devices if one.readings[-1].mig_index is not None or one.readings[-1].index not in divided
    ]


def _by_environment(devices: Sequence[DeviceSeen], environment: Mapping[str, str]) -> DeviceSeen | None:
    """The only GPU that the rank can see, or that of its place on this machine, as torchrun's scripts take it."""
    visible = _visible(devices, environment.get("CUDA_VISIBLE_DEVICES"))
    if len(visible) == 1:
        return visible[0]
    local = environment.get("LOCAL_RANK", "")
    return visible[int(local)] if local.isdecimal() and int(local) < len(visible) else None


def _visible(devices: Sequence[DeviceSeen], names: str | None) -> list[DeviceSeen]:
    """CUDA_VISIBLE_DEVICES: numbers, or beginnings of UUIDs; the first that is none ends it (CUDA guide, its appendix)."""
    if names is None:
        return list(devices)
    found: list[DeviceSeen] = []
    for name in names.split(","):
        wanted = name.strip()
        one = next((device for device in devices if _is_named(device.readings[-1], wanted)), None)
        if one is None:
            break
        found.append(one)
    return found


def _is_named(latest: GpuSample, name: str) -> bool:
    if name.isdecimal():
        return latest.mig_index is None and latest.index == int(name)
    return bool(name) and latest.uuid is not None and latest.uuid.startswith(name)


def _held(device: DeviceSeen, pid: int) -> int:
    """bytes of device memory that the process holds; 0 where the driver does not say."""
    return next((one.memory_bytes or 0 for one in device.readings[-1].processes or () if one.pid == pid), 0)


def _gpu(device: DeviceSeen, rank: RankSeen) -> Gpu:
    if not rank.steps:
        return Gpu(device, rank, ())
    # Of steps that are very short the window keeps some seconds only: those before them were steps, too.
    begin = rank.steps[0].t_end - rank.steps[0].step_s if len(rank.steps) < _KEPT_STEPS else -math.inf
    end = rank.steps[-1].t_end
    return Gpu(device, rank, tuple(one for one in device.readings[-_LATEST:] if begin <= one.t <= end))


def sure(count: int) -> Confidence:
    """How sure a mean of so many readings is."""
    return "high" if count >= 3 * FEWEST else "medium"
