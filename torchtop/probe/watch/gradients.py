"""Which parameters of the optimizers ever have a gradient when their optimizer steps. Keeps ids and sizes, no parameter."""

from __future__ import annotations

import time

from .pace import Pace

_PART = 0.05  # of the budget
_MOST_OPTIMIZERS = 1_000  # that are told apart: one for each parameter is a known style, one for each step a leak


def keeps_gradient(parameter):
    """Whether `.grad` may be read: of any other tensor torch prints a warning."""
    return parameter.is_leaf or parameter.retains_grad


class _Held:
    """What is known of one optimizer: `pending` has (group, place, id, elements, bytes) of those never seen with one."""

    def __init__(self, groups):
        self.sizes = [len(group["params"]) for group in groups]
        self.pending = []
        self.ids = set()
        self.elements = 0
        self.witness = None
        self.looks = 0
        for at, group in enumerate(groups):
            for place, parameter in enumerate(group["params"]):
                if parameter.requires_grad and keeps_gradient(parameter):
                    self.ids.add(id(parameter))
                    elements = parameter.numel()
                    self.elements += elements
                    self.pending.append((at, place, id(parameter), elements, elements * parameter.element_size()))


class Gradients:
    """Looks before an optimizer steps; where there was nothing to see then (a closure computes them), after it."""

    def __init__(self, budget):
        self.pace = Pace(budget, _PART)
        self._of = {}
        self._owed = None

    def before_step(self, optimizer):
        """Training thread, right before `optimizer` steps."""
        self._owed = None
        began, cpu_began = time.perf_counter(), time.thread_time()
        held = self._of.get(id(optimizer))
        behind = held is None or held.looks < max(other.looks for other in list(self._of.values()))
        if not (behind or self.pace.due(began)):
            return  # each optimizer has its turn, also if another one steps right before it every time
        if not self._look(optimizer):
            self._owed = id(optimizer)
        self.pace.worked(began, cpu_began)

    def after_step(self, optimizer):
        """Training thread, right after."""
        if self._owed == id(optimizer):
            began, cpu_began = time.perf_counter(), time.thread_time()
            self._owed = None
            self._look(optimizer)
            self.pace.worked(began, cpu_began)

    def _look(self, optimizer):
        """Whether any gradient was there at all."""
        groups = optimizer.param_groups
        held = self._of.get(id(optimizer))
        if held is None or held.sizes != [len(group["params"]) for group in groups]:
            if held is None and len(self._of) >= _MOST_OPTIMIZERS:
                return True
            held = self._of[id(optimizer)] = _Held(groups)
        if held.witness is not None:
            group, place = held.witness
            witness = groups[group]["params"][place]
            if not keeps_gradient(witness) or witness.grad is None:
                return False
        waiting = []
        for row in held.pending:
            parameter = groups[row[0]]["params"][row[1]]
            if not keeps_gradient(parameter):
                held.ids.discard(row[2])
                held.elements -= row[3]
            elif parameter.grad is None:
                waiting.append(row)
            elif held.witness is None:
                held.witness = row[:2]
        if held.witness is None:
            return False
        held.pending = waiting
        held.looks += 1
        return True

    def forget(self, key):
        """The optimizer with this id is no more: its ids may come back as those of others. Any thread."""
        self._of.pop(key, None)

    # The agent's side

    def looks(self):
        """How often each optimizer was looked at, at least."""
        return min((held.looks for held in list(self._of.values())), default=0)

    def held(self):
        """(ids of the parameters with requires_grad in optimizers that were looked at, elements of those)."""
        looked = [held for held in list(self._of.values()) if held.looks]
        return set().union(*(held.ids for held in looked)), sum(held.elements for held in looked)

    def never(self):
        """{id: (elements, bytes)} of parameters with requires_grad in which no gradient was ever seen."""
        looked = [held for held in list(self._of.values()) if held.looks]
        return {row[2]: row[3:] for held in looked for row in held.pending}
