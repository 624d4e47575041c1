"""The optimizers of one process: hooks around every step of each, and which of them are alive."""

from __future__ import annotations

import sys
import time
import weakref

from ..wire import OPTIMIZER_BEGIN, OPTIMIZER_END
from . import facts
from .hookdict import Hook
from .modes import rerouted
from .program import hand_on

_STEP_FILE, _STEP_NAME = "torch/optim/optimizer.py", "wrapper"
_MEMORY_S = 30.0  # s between two looks at what memory is made of


class Optimizers:
    """Those that have stepped, by id, as weak references; true when there is one."""

    def __init__(self, watch):
        self.memory = None  # what parameters, gradients and states hold, in bytes
        self._watch = watch
        self._by_id = {}
        self._memory_due = 0.0
        self._began = None

    def __bool__(self):
        return bool(self._by_id)

    def alive(self):
        """Optimizers that have stepped and still exist."""
        return [optimizer for optimizer in (ref() for ref in list(self._by_id.values())) if optimizer is not None]

    @property
    def stepping(self):
        """Whether a step is under way: a closure runs inside it."""
        return self._began is not None

    def hooks(self):
        """The two hooks that torch calls around every optimizer's step, not put in yet."""
        optimizer = sys.modules["torch.optim.optimizer"]
        where = (_STEP_FILE, _STEP_NAME)
        return [
            Hook(optimizer._global_optimizer_pre_hooks, self._before, "optimizer pre hook", *where),
            Hook(optimizer._global_optimizer_post_hooks, self._after, "optimizer post hook", *where),
        ]

    def _forget(self, key):
        self._by_id.pop(key, None)
        self._watch.weights.gradients.forget(key)

    # Training thread

    def _before(self, optimizer, _args, _kwargs):
        watch = self._watch
        if watch.on:
            if watch.weights.wanted and watch.clock.marks is None:
                watch.weights.before_step(optimizer)
            self._began = time.perf_counter()

    def _after(self, optimizer, _args, _kwargs):
        watch = self._watch
        if not watch.on:
            return
        try:
            now = time.perf_counter()
            began, self._began = self._began, None
            clock = watch.clock
            marks = clock.marks
            if began is not None:
                clock.optimizer(began, now)
                if marks is not None:
                    marks.note(OPTIMIZER_BEGIN, began)
                    marks.note(OPTIMIZER_END, now)
                    marks.optimizer_stepped()
            if watch.weights.wanted and marks is None:
                watch.weights.after_step(optimizer)
            key = id(optimizer)
            if key not in self._by_id:
                self._by_id[key] = weakref.ref(optimizer, lambda _, key=key: self._forget(key))
            if now > self._memory_due and clock.begun and not rerouted(watch.torch):
                self._memory_due = now + _MEMORY_S
                self.memory = facts.memory_made_of(self.alive())
            marks = clock.marks  # looking at the memory took time: a detach may have come between
            clock.optimizer_stepped(key, self._by_id, now)
            if marks is not None and marks.open:
                marks.outside_s += time.perf_counter() - now
        except Exception as error:
            hand_on(error)
            watch.errors += 1
