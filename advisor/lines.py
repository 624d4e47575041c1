"""Where in the user's code the time of a phase goes, from stacks of the thread that trains and of loader workers.

A stack belongs to the phase that torch's own frames on it name, the outermost one that decides; without any, the time
is nobody's: `other`. The user's line is found by walking down the tree of the user's frames along the heaviest branch,
as long as one line below holds most of it: a call that is slow in many places is named itself, not one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Literal, NamedTuple

from torchtop.advisor.frames import Spot, is_not_torchs, is_users, spot
from torchtop.advisor.stack_phase import COMPUTES, Between, Told, beside, kind_of, may_wait, tell, tell_worker
from torchtop.seen import RankSeen, StackCount
from torchtop.snapshot import Frame

Phase = Literal["other", "between", "data", "save", "sync", "gc"]

FEWEST = 5  # samples of a phase, or pauses: fewer name a line by chance
_DOMINATES = 1 / 3  # of a call's samples on one line below it: less, and the call itself is the better name
NONE_YET = "no stacks were taken yet"
_ENOUGH = 0.5  # of the time that is nobody's, found outside of what may be the loss: then the loss is left alone


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

    other: the training thread outside of loading, forward, backward, optimizer and saving; between: after forward and
    before backward, in what cannot be a loss; data: inside the DataLoader, in the workers if there are any; save: what
    writes a checkpoint; sync: a call that may wait for the device; gc: what sets off Python's collector, which no stack
    shows: from the probe's own record of its pauses.
    """
    if phase == "gc":
        return _of_pauses(rank)
    own = rank.own_stacks
    told = [tell(stack) for stack in own.counts] if own is not None else []
    if phase == "data":
        return _of_data(rank, told)
    if own is None:
        return rank.stacks_reason or NONE_YET
    enclosing = {spot(frame) for one in told if one.phase in COMPUTES for frame in one.stack.frames}
    if phase == "other":
        return _heaviest(_others(rank, told, own.samples), enclosing, phase)
    if phase == "between":
        return _heaviest(beside(told), enclosing, phase)
    if phase == "sync":
        return _heaviest([one.stack for one in told if may_wait(one)], enclosing, phase)
    saving = [_outside(one) for one in told if one.phase == "save"]
    return _heaviest(saving, enclosing, phase)


def samples_in(rank: RankSeen, phase: str) -> int:
    """Samples of the training thread that were in a phase; `other`: in none."""
    own = rank.own_stacks
    return sum(stack.count for stack in own.counts if tell(stack).phase == phase) if own is not None else 0


def samples_between(rank: RankSeen) -> int:
    """Samples of the training thread after forward and before backward, in what cannot be a loss."""
    return (
        sum(stack.count for stack in beside([tell(stack) for stack in rank.own_stacks.counts]))
        if rank.own_stacks
        else 0
    )


def asks_a_model(rank: RankSeen) -> bool:
    """Whether the DataLoader, on the training thread, was met calling modules: a policy, or transforms that are some."""
    told = [tell(stack) for stack in rank.own_stacks.counts] if rank.own_stacks is not None else []
    inside = [_inside(one) for one in told if one.phase == "data"]
    return sum(one.count for one in inside if any(kind_of(frame) == "forward" for frame in one.frames)) >= FEWEST


# Which samples count


def _others(rank: RankSeen, told: Sequence[Told], samples: int) -> list[StackCount]:
    """Stacks of no phase. What lies between the forward and the backward pass is the loss, and time of its own phase as
    far as it computes: it counts only where the rest does not explain the time that the steps say is nobody's.
    """
    loss = Between(told)
    free = [one.stack for one in told if one.phase == "other"]
    rest = [stack for stack in free if not loss.holds(stack)]
    expected = sum(phase.other for phase in rank.phases) / (sum(phase.step_s for phase in rank.phases) or 1.0)
    explained = sum(stack.count for stack in rest) >= _ENOUGH * expected * samples
    return rest if explained and rest else free


def _of_data(rank: RankSeen, told: Sequence[Told]) -> Line | str:
    """With workers the training thread only waits: what for is on their stacks."""
    loader = rank.facts.loader
    workers = [stacks for stacks in rank.stacks if stacks.pid != rank.pid]
    if workers:
        # A forked worker has the stack of the thread that forked it below its own.
        told = [tell_worker(stack) for stacks in workers for stack in stacks.counts]
    elif rank.workers or (loader is not None and loader.workers):
        return rank.stacks_reason or "no stacks of its workers were taken yet"
    elif not told:
        return rank.stacks_reason or NONE_YET
    return _heaviest([_inside(one) for one in told if one.phase == "data"], frozenset(), "data")


def _inside(one: Told) -> StackCount:
    """What the frame that decided has called."""
    return StackCount(frames=one.stack.frames[: one.marker], count=one.stack.count)


def _outside(one: Told) -> StackCount:
    """Who called the frame that decided."""
    return StackCount(frames=one.stack.frames[one.marker + 1 :], count=one.stack.count)


# From stacks to a line


def _heaviest(stacks: Sequence[StackCount], enclosing: Collection[Spot], phase: Phase) -> Line | str:
    """Walk down the user's frames. Where that ends at a line that encloses the whole step (`trainer.fit(...)`), or holds
    little, the frames of the framework count, too."""
    samples = sum(stack.count for stack in stacks)
    if samples < FEWEST:
        return f"{samples} samples of the stack were in {_NAMES[phase]}, {FEWEST} are needed"
    path, count = _descend(stacks, enclosing, is_users)
    encloses = not path or spot(path[0]) in enclosing
    if encloses or count < _DOMINATES * samples:
        deeper, deeper_count = _descend(stacks, enclosing, is_not_torchs)
        found = bool(deeper) and spot(deeper[0]) not in enclosing and deeper_count >= _DOMINATES * samples
        if found and (encloses or deeper_count > count):
            path, count = deeper, deeper_count
    if not path:
        return f"{samples} samples of the stack were in {_NAMES[phase]}, none outside PyTorch and the standard library"
    return Line(path[0], count / samples, samples, tuple(path[1:]))


_NAMES = {
    "other": "no phase",
    "between": "what lies between forward and backward",
    "data": "the loader",
    "save": "saving",
    "sync": "calls that may wait for the device",
}


def _descend(
    stacks: Sequence[StackCount], enclosing: Collection[Spot], counts: Callable[[Frame], bool]
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
        if chosen and below[most] < _DOMINATES * held and spot(chosen[-1]) not in enclosing:
            break
        held = below[most]
        paths = [one for one in paths if (one[0][depth].file, one[0][depth].line) == most]
        chosen.append(paths[0][0][depth])
    return chosen[::-1], held


def _of_pauses(rank: RankSeen) -> Line | str:
    seconds: dict[Spot, float] = {}
    frames: dict[Spot, Frame] = {}
    for pause in rank.gc_pauses:
        if pause.at is not None:
            place = spot(pause.at)
            frames[place] = pause.at
            seconds[place] = seconds.get(place, 0.0) + pause.seconds
    if not seconds:
        return "no pause of the collector was seen with its line"
    most = max(seconds, key=lambda place: seconds[place])
    total = sum(pause.seconds for pause in rank.gc_pauses)
    return Line(frames[most], seconds[most] / total if total else 0.0, len(rank.gc_pauses))
