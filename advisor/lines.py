"""Where in the user's code the time of a phase goes, from stacks of the thread that trains and of loader workers.

A stack belongs to the phase that torch's own frames on it name, the outermost one that decides; without any, the time
is nobody's: `other`. The user's line is found by walking down the tree of the user's frames along the heaviest branch,
as long as one line below holds most of it: a call that is slow in many places is named itself, not one of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from torchtop.seen import RankSeen, StackCount
from torchtop.snapshot import Frame

Phase = Literal["other", "data", "save", "sync", "gc"]
_Place = tuple[str, str, int]

FEWEST = 5  # samples of a phase, or pauses: fewer name a line by chance
_DOMINATES = 1 / 3  # of a call's samples on one line below it: less, and the call itself is the better name
_NONE_YET = "no stacks were taken yet"
_ENOUGH = 0.5  # of the time that is nobody's, found outside of what may be the loss: then the loss is left alone

# By the parts of a path, not by where Python is installed here: the target may run another one, elsewhere.
_LIBRARY = re.compile(
    r"(?:^|/)(?:site-packages|dist-packages|lib(?:64)?/python\d\.\d+|python\d+\.zip)/|(?:^|/)torchtop/probe/"
)
_STANDARD = re.compile(r"(?:^|/)(?:lib(?:64)?/python\d\.\d+/(?!(?:site|dist)-packages/)|python\d+\.zip/)|^<")
# A torch that was built from source stands in no site-packages. Inductor writes what it compiles to files of its own.
_TORCH = re.compile(
    r"(?:^|/)torch/(?:_\w*|accelerator|amp|ao|autograd|backends|cuda|distributed|distributions|export|func|functional|fx"
    r"|hub|jit|library|masked|mps|multiprocessing|nested|nn|optim|overrides|profiler|random|serialization|signal|sparse"
    r"|storage|testing|utils|xpu)(?:/|\.py$)|/torchinductor_|^<eval_with_key>"
)
_NOTEBOOK = re.compile(r"<(?:ipython-input-|stdin>)")
_TYPED = "<string>"  # python -c, but also what dataclasses generate
_GENERATED = frozenset(("__init__", "__new__", "__eq__", "__lt__", "__hash__", "__repr__", "__setattr__"))
_WAITS = re.compile(r"(?:^|/)torch/(?:cuda/|accelerator/|_tensor|_tensor_str)(?:\w*\.py)?$")


class Line(NamedTuple):
    """A place in the user's code."""

    frame: Frame
    share: float
    """0..1 of the phase's samples (of its seconds for `gc`) that are there or below."""
    samples: int
    """samples of the phase; pauses for `gc`."""
    callers: tuple[Frame, ...] = ()
    """The user's frames that lead there, the nearest first."""

    @property
    def where(self) -> dict[str, object]:
        """What a finding's `where` takes of it."""
        return {"file": self.frame.file, "line": self.frame.line, "function": self.frame.function}


def find_line(rank: RankSeen, phase: Phase) -> Line | str:
    """The line where most of the phase's time goes, or why there is none, in words for a person.

    other: the training thread outside of loading, forward, backward, optimizer and saving; data: inside the DataLoader,
    in the workers if there are any; save: what writes a checkpoint; sync: a call that may wait for the device; gc: what
    sets off Python's collector, which no stack shows: from the probe's own record of its pauses.
    """
    if phase == "gc":
        return _of_pauses(rank)
    own = rank.own_stacks
    told = [_tell(stack) for stack in own.counts] if own is not None else []
    if phase == "data":
        return _of_data(rank, told)
    if own is None:
        return rank.stacks_reason or _NONE_YET
    enclosing = {_place(frame) for one in told if one.phase in _COMPUTES for frame in one.stack.frames}
    if phase == "other":
        return _heaviest(_others(rank, told, own.samples), enclosing, phase)
    if phase == "sync":
        return _heaviest([one.stack for one in told if _may_wait(one)], enclosing, phase)
    saving = [_outside(one) for one in told if one.phase == "save"]
    return _heaviest(saving, enclosing, phase)


def samples_in(rank: RankSeen, phase: str) -> int:
    """Samples of the training thread that were in a phase; `other`: in none."""
    own = rank.own_stacks
    return sum(stack.count for stack in own.counts if _tell(stack).phase == phase) if own is not None else 0


def asks_a_model(rank: RankSeen) -> bool:
    """Whether the DataLoader, on the training thread, was met calling modules: a policy, or transforms that are some."""
    told = [_tell(stack) for stack in rank.own_stacks.counts] if rank.own_stacks is not None else []
    inside = [_inside(one) for one in told if one.phase == "data"]
    return sum(one.count for one in inside if any(_kind(frame) == "forward" for frame in one.frames)) >= FEWEST


# Which phase a stack is in

_COMPUTES = ("forward", "backward", "optimizer")


class _Told(NamedTuple):
    """A stack, its phase, and the place of the frame that says so (of `frames`, innermost first)."""

    stack: StackCount
    phase: str
    marker: int


def _tell(stack: StackCount) -> _Told:
    """Walk inwards to the first frame that decides. A closure that the optimizer calls is not the optimizer."""
    phase, marker, in_torchs_step = "other", len(stack.frames), False
    for at in range(len(stack.frames) - 1, -1, -1):
        frame = stack.frames[at]
        if _is_torch(frame.file):
            kind = _kind(frame)
            if kind is not None and kind != "optimizer":
                return _Told(stack, kind, at)
            if kind == "optimizer" and phase != "optimizer":
                phase, marker = "optimizer", at
            in_torchs_step = phase == "optimizer" and (in_torchs_step or _is_a_step(frame))
        elif phase == "optimizer" and (
            "closure" in frame.function.lower() or (in_torchs_step and not _STANDARD.search(frame.file))
        ):
            phase, marker, in_torchs_step = "other", len(stack.frames), False
        elif "/safetensors/" in frame.file and "save" in frame.function:
            return _Told(stack, "save", at)
    return _Told(stack, phase, marker)


def _is_a_step(frame: Frame) -> bool:
    return "torch/optim/" in frame.file and not frame.file.endswith("/optimizer.py")


def _kind(frame: Frame) -> str | None:
    """What a frame of torch's says of everything that it called; None for nothing."""
    name = frame.function.rpartition(".")[2]
    for file, names, kind in _KINDS:
        if frame.file.endswith(file) and (names is None or name in names):
            return kind
    if "/torchinductor_" in frame.file or frame.file.startswith("<eval_with_key>"):
        return "forward"
    return "save" if "torch/distributed/checkpoint/" in frame.file and "save" in name else None


# (end of the file's path, last parts of the function's name or None for any, phase)
_KINDS: tuple[tuple[str, frozenset[str] | None, str], ...] = (
    ("torch/utils/data/dataloader.py", None, "data"),
    ("torch/utils/data/_utils/fetch.py", None, "data"),
    ("torch/nn/modules/module.py", frozenset(("_call_impl", "_wrapped_call_impl", "_slow_forward")), "forward"),
    ("torch/nn/modules/module.py", frozenset(("zero_grad",)), "zero_grad"),
    ("torch/_tensor.py", frozenset(("backward",)), "backward"),
    ("torch/autograd/__init__.py", frozenset(("backward", "grad")), "backward"),
    ("torch/autograd/graph.py", frozenset(("_engine_run_backward",)), "backward"),
    ("torch/optim/optimizer.py", frozenset(("zero_grad",)), "zero_grad"),
    ("torch/optim/optimizer.py", frozenset(("wrapper", "_use_grad")), "optimizer"),
    ("torch/serialization.py", frozenset(("save", "_save", "_legacy_save")), "save"),
)


# Which samples count


def _others(rank: RankSeen, told: Sequence[_Told], samples: int) -> list[StackCount]:
    """Stacks of no phase. What lies between the forward and the backward pass is the loss, and time of its own phase as
    far as it computes: it counts only where the rest does not explain the time that the steps say is nobody's.
    """
    loss = _Between(told)
    free = [one.stack for one in told if one.phase == "other"]
    rest = [stack for stack in free if not loss.holds(stack)]
    expected = sum(phase.other for phase in rank.phases) / (sum(phase.step_s for phase in rank.phases) or 1.0)
    explained = sum(stack.count for stack in rest) >= _ENOUGH * expected * samples
    return rest if explained and rest else free


class _Between:
    """Tells what runs after a forward pass and before the backward pass that follows it, by the order of lines in the
    function in which two stacks part."""

    def __init__(self, told: Sequence[_Told]) -> None:
        self._passes = list(
            dict.fromkeys(
                (_path(one.stack.frames[one.marker + 1 :]), one.phase)
                for one in told
                if one.phase in ("forward", "backward")
            )
        )

    def holds(self, stack: StackCount) -> bool:
        path = _path(stack.frames)
        last = following = None
        for one in self._passes:
            order = _order(one[0], path)
            if order < 0 and (last is None or _order(last[0], one[0]) < 0):
                last = one
            elif order > 0 and (following is None or _order(one[0], following[0]) < 0):
                following = one
        return last is not None and following is not None and (last[1], following[1]) == ("forward", "backward")


def _path(frames: Sequence[Frame]) -> tuple[_Place, ...]:
    """Outermost first, without torch."""
    return tuple(_place(frame) for frame in reversed(frames) if not _is_torch(frame.file))


def _order(one: Sequence[_Place], other: Sequence[_Place]) -> int:
    """-1 where `one` runs before `other`, 1 where after, 0 where their lines do not tell."""
    for mine, its in zip(one, other, strict=False):
        if mine != its:
            return ((mine[2] > its[2]) - (mine[2] < its[2])) if mine[:2] == its[:2] else 0
    return 0


def _may_wait(one: _Told) -> bool:
    """Whether the thread is in a C function that the user's code called, or in one of torch's that waits: the model's
    forward only queues work on a device, so whoever is met in one place again and again waits there."""
    if one.phase not in ("other", "forward") or not one.stack.frames:
        return False
    inner = one.stack.frames[0]
    return bool(_WAITS.search(inner.file)) or is_users(inner)


def _of_data(rank: RankSeen, told: Sequence[_Told]) -> Line | str:
    """With workers the training thread only waits: what for is on their stacks."""
    loader = rank.facts.loader
    workers = [stacks for stacks in rank.stacks if stacks.pid != rank.pid]
    if workers:
        # A forked worker has the stack of the thread that forked it below its own.
        told = [_tell_worker(stack) for stacks in workers for stack in stacks.counts]
    elif rank.workers or (loader is not None and loader.workers):
        return rank.stacks_reason or "no stacks of its workers were taken yet"
    elif not told:
        return rank.stacks_reason or _NONE_YET
    return _heaviest([_inside(one) for one in told if one.phase == "data"], frozenset(), "data")


def _tell_worker(stack: StackCount) -> _Told:
    """Loading is what the dataset is asked for; waiting for an index, and handing over, is not."""
    for at, frame in enumerate(stack.frames):
        if frame.file.endswith("torch/utils/data/_utils/fetch.py"):
            return _Told(stack, "data", at)
    return _Told(stack, "other", len(stack.frames))


def _inside(one: _Told) -> StackCount:
    """What the frame that decided has called."""
    return StackCount(frames=one.stack.frames[: one.marker], count=one.stack.count)


def _outside(one: _Told) -> StackCount:
    """Who called the frame that decided."""
    return StackCount(frames=one.stack.frames[one.marker + 1 :], count=one.stack.count)


# From stacks to a line


def _heaviest(stacks: Sequence[StackCount], enclosing: Collection[_Place], phase: Phase) -> Line | str:
    """Walk down the user's frames. Where that ends at a line that encloses the whole step (`trainer.fit(...)`), or holds
    little, the frames of the framework count, too."""
    samples = sum(stack.count for stack in stacks)
    if samples < FEWEST:
        return f"{samples} samples of the stack were in {_NAMES[phase]}, {FEWEST} are needed"
    path, count = _descend(stacks, enclosing, is_users)
    encloses = not path or _place(path[0]) in enclosing
    if encloses or count < _DOMINATES * samples:
        deeper, deeper_count = _descend(stacks, enclosing, _is_not_torchs)
        found = bool(deeper) and _place(deeper[0]) not in enclosing and deeper_count >= _DOMINATES * samples
        if found and (encloses or deeper_count > count):
            path, count = deeper, deeper_count
    if not path:
        return f"{samples} samples of the stack were in {_NAMES[phase]}, none outside PyTorch and the standard library"
    return Line(path[0], count / samples, samples, tuple(path[1:]))


_NAMES = {"other": "no phase", "data": "the loader", "save": "saving", "sync": "calls that may wait for the device"}


def _descend(
    stacks: Sequence[StackCount], enclosing: Collection[_Place], counts: Callable[[Frame], bool]
) -> tuple[list[Frame], int]:
    """(frames from the chosen one outwards, samples there or below); of each stack only the frames that count."""
    paths = [([frame for frame in reversed(stack.frames) if counts(frame)], stack.count) for stack in stacks]
    chosen: list[Frame] = []
    held = sum(count for _, count in paths)
    while True:
        depth = len(chosen)
        paths = [one for one in paths if len(one[0]) > depth]
        below: dict[tuple[str, int], int] = {}
        for frames, count in paths:
            at = (frames[depth].file, frames[depth].line)
            below[at] = below.get(at, 0) + count
        if not below:
            break
        most = max(below, key=lambda at: below[at])
        # A first line is better than none, and so is any below one that says nothing.
        if chosen and below[most] < _DOMINATES * held and _place(chosen[-1]) not in enclosing:
            break
        held = below[most]
        paths = [one for one in paths if (one[0][depth].file, one[0][depth].line) == most]
        chosen.append(paths[0][0][depth])
    return chosen[::-1], held


def _of_pauses(rank: RankSeen) -> Line | str:
    seconds: dict[_Place, float] = {}
    frames: dict[_Place, Frame] = {}
    for pause in rank.gc_pauses:
        if pause.at is not None:
            place = _place(pause.at)
            frames[place] = pause.at
            seconds[place] = seconds.get(place, 0.0) + pause.seconds
    if not seconds:
        return "no pause of the collector was seen with its line"
    most = max(seconds, key=lambda place: seconds[place])
    total = sum(pause.seconds for pause in rank.gc_pauses)
    return Line(frames[most], seconds[most] / total if total else 0.0, len(rank.gc_pauses))


def _place(frame: Frame) -> _Place:
    return frame.file, frame.function, frame.line


@lru_cache(maxsize=4096)  # thousands of frames are of some hundred files
def _is_torch(file: str) -> bool:
    return _TORCH.search(file) is not None


def is_users(frame: Frame) -> bool:
    """Outside of what is installed. Code typed into a command line or a notebook is the user's; other code without a
    file is generated."""
    if frame.file.startswith("<"):
        typed = frame.file == _TYPED and frame.function.rpartition(".")[2] not in _GENERATED
        return typed or _NOTEBOOK.match(frame.file) is not None
    return not _LIBRARY.search(frame.file) and not _is_torch(frame.file)


def _is_not_torchs(frame: Frame) -> bool:
    """The user's and the frameworks'."""
    return is_users(frame) or not (_STANDARD.search(frame.file) or _is_torch(frame.file))
