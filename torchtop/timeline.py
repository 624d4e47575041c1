"""From the marks of one armed step to phases and layer times. Pure functions, standard library only.

Backward rule (measured against torch.profiler): hooks on one graph node run in the order of registration, so a child
says IN before its parent and a producer says IN before its consumer says OUT. Hence: on IN(m) leave modules until an
ancestor of m is on top; if m is itself an ancestor of the top, it goes below it; OUT(m) of a module that is not on the
stack means nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torchtop.module_times import ModuleTimes, PackedTimes
from torchtop.modules import ModuleTree
from torchtop.probe import wire

PHASES = ("data", "forward", "backward", "optimizer")


class Cost(NamedTuple):
    """What the probe itself added to the step: in forward, in backward, in no phase.

    calls: of modules by modules; taps: hooks on graph nodes.
    """

    forward_s: float
    backward_s: float
    outside_s: float
    calls: int
    taps: int

    @property
    def per_call_s(self) -> float:
        """s added around each module call inside another."""
        return self.forward_s / self.calls if self.calls else 0.0

    @property
    def per_tap_s(self) -> float:
        """s added at each graph node hook."""
        return self.backward_s / self.taps if self.taps else 0.0


class ArmedStep(NamedTuple):
    """One armed step, taken apart. Times are net of the probe's own."""

    t_end: float
    step_s: float
    phases: dict[str, float | None]
    modules: PackedTimes


def account(
    times: Sequence[float],
    codes: Sequence[int],
    span: tuple[float, float],
    loss_s: float,
    cost: Cost,
    tree: ModuleTree,
) -> ArmedStep:
    """Take one step apart.

    times, codes: its marks in the order in which they were written; span: (begin, end) of the step; loss_s: CPU
    seconds of the training thread between the root forward and backward, which belong to forward.
    """
    marks = _Marks(times, codes)
    modules: dict[int, ModuleTimes] = {}
    phases = _phases(marks, span)
    _forward(marks, cost, modules)
    _backward(marks, cost, modules, tree)
    if phases["forward"] is not None:
        phases["forward"] = max(phases["forward"] - cost.forward_s + loss_s, 0.0)
    if phases["backward"] is not None:
        phases["backward"] = max(phases["backward"] - cost.backward_s, 0.0)
    step_s = span[1] - span[0] - cost.forward_s - cost.backward_s - cost.outside_s
    known = sum(value for value in phases.values() if value is not None)
    return ArmedStep(span[1], step_s, {**phases, "other": max(step_s - known, 0.0)}, PackedTimes(modules))


class _Marks:
    """The marks of a step in order of time, in columns: as rows they are so many objects that the collector of cycles
    begins its longest round, which stops a screen for dozens of ms.
    """

    def __init__(self, times: Sequence[float], codes: Sequence[int]) -> None:
        # Both marks of a wait are written at its end, so writing order is not time order. The sort is stable.
        order = sorted(range(len(times)), key=times.__getitem__)
        self._times = [times[i] for i in order]
        self._kinds: list[int] = []
        self._indices: list[int] = []
        self._threads: list[int] = []
        for i in order:
            kind, index, thread = wire.unmark(codes[i])
            self._kinds.append(kind)
            self._indices.append(index)
            self._threads.append(thread)

    def __iter__(self) -> Iterator[tuple[float, int, int, int]]:
        """(time, kind, module, thread) of each."""
        return zip(self._times, self._kinds, self._indices, self._threads, strict=True)


_OPENS = {
    wire.DATA_BEGIN: "data",
    wire.BACKWARD_BEGIN: "backward",
    wire.OPTIMIZER_BEGIN: "optimizer",
    wire.GRAD_BEGIN: "backward",
}
_CLOSES = {
    wire.DATA_END: "data",
    wire.BACKWARD_END: "backward",
    wire.OPTIMIZER_END: "optimizer",
    wire.GRAD_END: "backward",
}
_OF_BACKWARD = frozenset(
    (
        wire.BACKWARD_IN,
        wire.BACKWARD_OUT,
        wire.BACKWARD_BEGIN,
        wire.BACKWARD_END,
        wire.GRAD_BEGIN,
        wire.GRAD_END,
        wire.RECOMPUTE_BEGIN,
        wire.RECOMPUTE_END,
    )
)


def _phases(marks: _Marks, span: tuple[float, float]) -> dict[str, float | None]:
    """Time in each phase on the training thread; where they nest (LBFGS), the innermost counts. None: never seen.

    In a closure of the optimizer, what lies between the root's forward and backward is the loss: forward, too.
    """
    total: dict[str, float | None] = dict.fromkeys(PHASES)
    # An optimizer that steps inside backward (one for each parameter) ends the step there.
    inside = ["backward"] if _ends_first(marks, wire.BACKWARD_BEGIN, wire.BACKWARD_END) else []
    depth = 0
    last = span[0]
    loss_follows = False
    for t, kind, _index, thread in marks:
        if thread:
            continue
        if not span[0] <= t <= span[1]:
            t = min(max(t, span[0]), span[1])
        if inside or depth:
            # Forward inside optimizer or nothing is forward; inside backward it is recomputation.
            name = inside[-1] if inside and (inside[-1] != "optimizer" or not depth) else "forward"
            if kind == wire.BACKWARD_BEGIN and loss_follows and name == "optimizer":
                name = "forward"
            total[name] = (total[name] or 0.0) + t - last
        last = t
        loss_follows = kind == wire.FORWARD_END and depth <= 1
        if kind == wire.FORWARD_BEGIN:
            depth += 1
        elif kind == wire.FORWARD_END:
            depth = max(depth - 1, 0)
        elif kind in _OPENS:
            if kind in (wire.DATA_BEGIN, wire.BACKWARD_BEGIN):
                depth = 0  # a forward that raised never said END
            inside.append(_OPENS[kind])
        elif kind in _CLOSES and _CLOSES[kind] in inside:
            inside.remove(_CLOSES[kind])
    if inside:
        total[inside[-1]] = (total[inside[-1]] or 0.0) + span[1] - last
    return total


def _ends_first(marks: _Marks, begin: int, end: int) -> bool:
    """Whether what `begin` and `end` enclose was under way when the step began."""
    return next((kind for _, kind, _, thread in marks if not thread and kind in (begin, end)), begin) == end


def _forward(marks: _Marks, cost: Cost, modules: dict[int, ModuleTimes]) -> None:
    """Inclusive and own forward time by the nesting of calls, recomputation beside it."""
    stack: list[list[float]] = []  # [index, begin, children's time, nested calls]
    again: list[list[float]] = []
    per_call_s = cost.per_call_s
    for t, kind, index, thread in marks:
        if thread:
            continue
        if kind == wire.FORWARD_BEGIN:
            stack.append([index, t, 0.0, 0])
        elif kind == wire.FORWARD_END:
            while stack:
                top = stack.pop()
                if top[0] == index:
                    inclusive = t - top[1]
                    times = modules.setdefault(index, ModuleTimes())
                    times.calls += 1
                    times.self_forward_s += max(inclusive - top[2] - top[3] * per_call_s, 0.0)
                    for outer in stack:
                        if outer[0] == index:
                            break
                    else:
                        times.forward_s += max(inclusive - top[3] * per_call_s, 0.0)
                    if stack:
                        stack[-1][2] += inclusive
                        stack[-1][3] += 1 + top[3]
                    break
        elif kind == wire.RECOMPUTE_BEGIN:
            again.append([index, t])
        elif kind == wire.RECOMPUTE_END:
            while again:
                begun = again.pop()
                if begun[0] == index:
                    times = modules.setdefault(index, ModuleTimes())
                    times.recompute_s = (times.recompute_s or 0.0) + t - begun[1]
                    break
        elif kind in (wire.BACKWARD_IN, wire.BACKWARD_OUT, wire.BACKWARD_END):
            again.clear()  # non-reentrant checkpointing stops early: half of the ends never come


def _backward(marks: _Marks, cost: Cost, modules: dict[int, ModuleTimes], tree: ModuleTree) -> None:
    """Own backward time by the rule at the top of this file; inclusive time by the module tree."""
    stack: list[int] = []
    own: dict[int, float] = {}
    last: float | None = None
    recomputing = 0
    per_tap_s = cost.per_tap_s
    for t, kind, index, _thread in marks:
        if kind not in _OF_BACKWARD:
            continue
        if kind == wire.RECOMPUTE_BEGIN:
            if stack and last is not None and not recomputing:
                own[stack[-1]] = own.get(stack[-1], 0.0) + t - last
            recomputing += 1
            last = t
            continue
        if kind == wire.RECOMPUTE_END:
            recomputing = max(recomputing - 1, 0)
            last = t
            continue
        if stack and last is not None and not recomputing:
            own[stack[-1]] = own.get(stack[-1], 0.0) + max(t - last - per_tap_s, 0.0)
        recomputing = 0
        last = t
        if kind == wire.BACKWARD_IN:
            _enter(stack, index, tree)
        elif kind == wire.BACKWARD_OUT:
            if index in stack:
                del stack[stack.index(index) :]
        else:
            stack.clear()
    for index, seconds in own.items():
        times = modules.setdefault(index, ModuleTimes())
        times.self_backward_s = seconds
        for above in tree.lineage(index):
            holder = modules.setdefault(above, ModuleTimes())
            holder.backward_s = (holder.backward_s or 0.0) + seconds


def _enter(stack: list[int], index: int, tree: ModuleTree) -> None:
    if stack and stack[-1] == index:
        return
    if stack and tree.is_ancestor(index, stack[-1]):
        if index not in stack:
            at = len(stack) - 1
            while at > 0 and tree.is_ancestor(index, stack[at - 1]):
                at -= 1
            stack.insert(at, index)
        return
    while stack and not tree.is_ancestor(stack[-1], index):
        stack.pop()
    if not stack or stack[-1] != index:
        stack.append(index)
