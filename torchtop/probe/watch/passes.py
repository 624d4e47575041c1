"""What armed steps tell of their passes: autocast, gradients that were kept, and whether DDP all-reduced. Reads only."""

from __future__ import annotations

import time
import weakref
from collections import deque

from .gradients import keeps_gradient
from .modes import rerouted

CALLS = 8  # module calls of a step that are looked at for autocast: a wrapper may switch it on further in
_PARAMETERS = 32  # of an optimizer, spread over it, whose gradients are looked for
_GRADIENTS_S = 2.0  # s between two looks at gradients
_STEPS = 32  # armed steps that the number of synchronised passes is the mean of


class Passes:
    """Settings that only show while a pass runs: noted in the marks by the training thread, put together by the agent.

    autocast: its dtype in the last step that was looked into, None: off. forward_seen: there was such a step. kept:
    gradients of the step before were there when backward began, None when that cannot be told.
    """

    def __init__(self, torch, watch):
        self.autocast = None
        self.forward_seen = False
        self.kept = None
        self._torch = torch
        self._watch = watch
        self._steps = deque(maxlen=_STEPS)
        self._gradients_due = 0.0
        self._parallel = ()
        self._looked_through = 0

    # Training thread

    def called(self, marks):
        """One of the first CALLS modules is called in an armed step."""
        if marks.autocast is None:
            marks.autocast = _autocast(self._torch)

    def backward_begins(self, marks):
        """A backward pass is about to begin in an armed step."""
        marks.passes += 1
        if marks.passes == 1 and self._parallel:
            marks.synced = 0
        if marks.synced is not None:
            # no_sync() counts where the forward pass runs, and this is what DDP notes there.
            marks.synced += any(getattr(ref(), "require_forward_param_sync", False) for ref in self._parallel)
        now = time.monotonic()
        if now < self._gradients_due or rerouted(self._torch):
            return
        alive = self._watch.optimizers.alive()
        if not alive:
            return
        if len(alive) > 1:
            # Which pass fills whose gradients is not known.
            self.kept = None
        elif marks.passes == 1:
            self._gradients_due = now + _GRADIENTS_S
            self.kept = _has_gradients(alive[0])

    # Agent thread

    def take(self, marks):
        """An armed step is over."""
        if marks.calls:
            self.forward_seen, self.autocast = True, marks.autocast
        if marks.synced is not None:
            self._steps.append(marks.synced)

    def parallel(self):
        """DistributedDataParallel modules that are alive, among those seen so far."""
        table = self._watch.table
        count = len(table)
        if count != self._looked_through:
            new = [
                table.module(index)
                for index in range(self._looked_through, count)
                if table.kinds[index] == "DistributedDataParallel"
            ]
            self._looked_through = count
            self._parallel += tuple(weakref.ref(module) for module in new if module is not None)
        return [module for module in (ref() for ref in self._parallel) if module is not None]

    def synced(self):
        """Backward passes in a step in which DDP all-reduced, mean; None when there is no DDP or no step was seen."""
        steps = list(self._steps)
        return round(sum(steps) / len(steps), 2) if steps else None


def _autocast(torch):
    dtype = None
    if hasattr(torch, "get_autocast_dtype"):  # since torch 2.4, where the others warn
        for kind in ("cuda", "cpu"):
            if dtype is None and torch.is_autocast_enabled(kind):
                dtype = torch.get_autocast_dtype(kind)
    elif torch.is_autocast_enabled():
        dtype = torch.get_autocast_gpu_dtype()
    elif torch.is_autocast_cpu_enabled():
        dtype = torch.get_autocast_cpu_dtype()
    return dtype and str(dtype).rpartition(".")[2]


def _has_gradients(optimizer):
    """Whether most of its parameters have a gradient; None when it has no parameter that could."""
    found = looked = 0
    for group in optimizer.param_groups:
        parameters = group["params"]
        for parameter in parameters[:: len(parameters) // _PARAMETERS + 1]:
            if parameter.requires_grad and keeps_gradient(parameter):
                looked += 1
                found += parameter.grad is not None
    return 2 * found > looked if looked else None
