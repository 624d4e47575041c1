"""What has been seen lately: bounded buffers, fed by the collectors. The only mutable state of the monitor."""

from __future__ import annotations

import base64
from array import array
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from torchtop.call_sites import CallSites
from torchtop.kept import Kept
from torchtop.modules import ModuleTree
from torchtop.pauses import Pauses
from torchtop.probe import wire
from torchtop.processes import Processes
from torchtop.record import (
    GpuSample,
    HostSample,
    MachineSample,
    Neighbours,
    ProbeMessage,
    ProcessSample,
    Sample,
    StackBurst,
    StackSample,
    StepRow,
)
from torchtop.seen import Allocator
from torchtop.snapshot import Layer
from torchtop.timeline import ArmedStep, Cost, account
from torchtop.weight_scan import WeightScan

_STEPS = 20_000  # rows per rank: 6 MB, and 20 ms for each look at them; of older ones only the number is kept
_ARMED = 48  # armed steps per rank
_READINGS = 4_000  # readings per source
_LOOKS = 12  # looks at the neighbours, one in 5 s: of the last minute
_BURSTS = 128  # bursts of stacks, of all ranks and their workers


class Batch(NamedTuple):
    """What the armed step saw of its inputs; samples of a whole step and rank.

    recalled: the model was called again on what may be the same samples.
    """

    samples: float | None
    micro: int | None
    tokens: float | None
    recalled: bool = False


class RankWindow:
    """One rank."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.steps: deque[StepRow] = deque(maxlen=_STEPS)
        self.older = 0  # steps of this window that are only counted
        self.total = 0  # steps since attach
        self.attached: float | None = None  # s, monotonic; None: not yet
        self.armed: deque[ArmedStep] = deque(maxlen=_ARMED)
        self.tree = ModuleTree()
        self.sites = CallSites()
        self.shapes: dict[int, tuple[tuple[int, ...], str, int, int]] = {}
        self.batch = Batch(None, None, None)
        self.loss: float | None = None
        self.loss_finite: bool | None = None
        self.training: bool | None = None
        self.hello: dict[str, Any] = {}
        self.facts: dict[str, Any] = {}
        self.memory: dict[str, int] = {}
        self.weights = WeightScan()
        self.pauses = Pauses()
        self.allocator: deque[Allocator] = deque(maxlen=_READINGS)
        self.health: dict[str, Any] = {}
        self.bye: dict[str, Any] | None = None
        self.processes = Processes(pid)
        self.revision = 0  # of all that its layers are made from
        self.layer_rows: Kept[tuple[tuple[Layer, ...], int]] = Kept()
        self.layer_names: Kept[Mapping[str, Sequence[int]]] = Kept()
        self._parts: dict[int, tuple[array[float], array[int]]] = {}
        self._earlier = (float("-inf"), 0)  # end and number of the steps that a probe before this one told of

    def follow(self, before: RankWindow) -> None:
        """Take over what does not depend on who tells it from a probe that is gone: readings, and its steps.

        Those between the two were not seen and are not counted. Modules are numbered anew.
        """
        self.processes, self.pauses, self.allocator = before.processes, before.pauses, before.allocator
        self.steps, self.older, self.total = before.steps, before.older, before.total
        self.attached = before.attached
        self._earlier = (self.steps[-1].t_end if self.steps else float("-inf"), self.total)

    @property
    def on_cuda(self) -> bool:
        """Whether the model is on a CUDA device: the marks of the host then say when work was queued, not done."""
        return "cuda" in self.facts.get("devices", ())

    def take(self, message: ProbeMessage) -> None:
        """Take in one message of the probe; unknown types are left alone."""
        body = message.body
        if message.type in (wire.MODULES, wire.SITES, wire.FACTS):
            self.revision += 1
        if message.type == wire.STEP:
            if body.get("reset"):
                self.revision += 1
                # What was counted so far were no steps: an optimizer came, or one that steps more rarely.
                end, self.total = self._earlier
                while self.steps and self.steps[-1].t_end > end:
                    self.steps.pop()
                self.older = self.older if self.steps else 0
                self.armed.clear()
            self.total += len(body["rows"])
            self.older += max(len(self.steps) + len(body["rows"]) - _STEPS, 0)
            self.steps.extend(StepRow(*row) for row in body["rows"])
        elif message.type == wire.LAYERS:
            self._take_layers(body)
        elif message.type == wire.MODULES:
            self.tree.add(body)
        elif message.type == wire.SITES:
            self.sites.add(body)
        elif message.type == wire.FACTS:
            self.facts = body["facts"]
        elif message.type == wire.MEMORY:
            self.memory = body
        elif message.type == wire.PAUSES:
            self.pauses.add(body)
        elif message.type == wire.ALLOCATOR:
            t, allocated, reserved = body["t"], body["allocated_bytes"], body["reserved_bytes"]
            self.allocator.append(Allocator(t, allocated, reserved, body["peak_bytes"], body.get("retries", 0)))
        elif message.type == wire.WEIGHTS:
            self.weights.add(body)
        elif message.type == wire.HEALTH:
            self.health = body
            if body.get("compiled") and self.armed:
                self.revision += 1
                self.armed.clear()  # of the time before: it is not armed any more, and what was eager is so no longer
        elif message.type == wire.HELLO:
            self.hello = body
        elif message.type == wire.BYE:
            self.bye = body

    def _take_layers(self, body: dict[str, Any]) -> None:
        if "loss_finite" in body:
            self.loss, self.loss_finite = body["loss"], body["loss_finite"]
            return
        if "times" not in body:
            return
        times, codes = self._parts.pop(body["step"], (array("d"), array("q")))
        times.frombytes(base64.b64decode(body["times"]))
        codes.frombytes(base64.b64decode(body["codes"]))
        if body["part"] < body["parts"] - 1:
            self._parts = {body["step"]: (times, codes)}  # parts come in a row: others are of a step that was cut off
            return
        for index, shape, dtype, elements, stored in body.get("shapes", ()):
            self.shapes[index] = (tuple(shape), dtype, elements, stored)
        self.training = body["training"] or (self.training or False) and not body["evaluating"]
        if body["batch"] is not None:
            self.batch = Batch(body["batch"], body["micro_batch"], body["tokens"], body["recalled"])
        forward_s, backward_s, outside_s = body["cost_s"]
        cost = Cost(forward_s, backward_s, outside_s, body["calls"], body["taps"])
        span = (body["t0"], body["t1"])
        self.revision += 1
        self.armed.append(account(times, codes, span, body["loss_s"], cost, self.tree))

    def forget_before(self, t: float) -> None:
        """Drop what ended before `t`; the latest armed step stays, however old: it is all there is of the layers."""
        self.older = 0
        while self.steps and self.steps[0].t_end < t:
            self.steps.popleft()
        while len(self.armed) > 1 and self.armed[0].t_end < t:
            self.revision += 1
            self.armed.popleft()
        self.pauses.forget_before(t)
        self.processes.forget_before(t)
        _forget(self.allocator, t)


class Window:
    """All ranks, the machine, and its devices."""

    def __init__(self, rank_pids: Iterable[int], began: float) -> None:
        self.began = began
        self.ranks = {pid: RankWindow(pid) for pid in rank_pids}
        self.host: deque[HostSample] = deque(maxlen=_READINGS)
        self.devices: dict[tuple[int, int | None], deque[GpuSample]] = {}
        self.stacks: dict[int, list[StackSample]] = {}
        self.bursts: deque[StackBurst] = deque(maxlen=_BURSTS)
        self.machine: MachineSample | None = None
        self.neighbours: deque[Neighbours] = deque(maxlen=_LOOKS)

    def add(self, rank_pid: int) -> None:
        """Make room for a rank; nothing changes for one that is known."""
        self.ranks.setdefault(rank_pid, RankWindow(rank_pid))

    def take(self, sample: Sample) -> None:
        """Take in one reading."""
        if isinstance(sample, ProbeMessage):
            self.ranks[sample.rank_pid].take(sample)
        elif isinstance(sample, ProcessSample):
            self.add(sample.rank_pid)
            self.ranks[sample.rank_pid].processes.take(sample)
        elif isinstance(sample, MachineSample):
            self.machine = sample
        elif isinstance(sample, Neighbours):
            self.neighbours.append(sample)
        elif isinstance(sample, StackBurst):
            self.bursts.append(sample)
        elif isinstance(sample, HostSample):
            self.host.append(sample)
        elif isinstance(sample, GpuSample):
            key = (sample.index, sample.mig_index)
            self.devices.setdefault(key, deque(maxlen=_READINGS)).append(sample)
        else:
            dump = self.stacks.get(sample.rank_pid, [])
            # One dump yields all threads with one time: a newer time starts a new dump.
            self.stacks[sample.rank_pid] = [*(s for s in dump if s.t == sample.t), sample]

    def devices_in_order(self) -> list[deque[GpuSample]]:
        """Readings of each device, a whole one before its MIG instances."""
        return [self.devices[key] for key in sorted(self.devices, key=lambda key: (key[0], key[1] is not None, key[1]))]

    def replace(self, rank_pid: int) -> None:
        """Another probe takes the place of the one in a rank."""
        fresh = RankWindow(rank_pid)
        fresh.follow(self.ranks[rank_pid])
        self.ranks[rank_pid] = fresh

    def forget_before(self, t: float) -> None:
        """Let the window begin at `t`."""
        self.began = max(self.began, t)
        for rank in self.ranks.values():
            rank.forget_before(t)
        _forget(self.host, t)
        _forget(self.neighbours, t)
        _forget(self.bursts, t)
        for readings in self.devices.values():
            _forget(readings, t)


def _forget(readings: deque[Any], t: float) -> None:
    while len(readings) > 1 and readings[0].t < t:
        readings.popleft()
