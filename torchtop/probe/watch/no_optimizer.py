"""Steps of a loop in which no optimizer steps: inference, or parameters that are updated by hand.

A step runs from one call of the root module to the next, in training from the first forward with gradients after a
backward pass to the next such one. Where no module is called at all it ends with its backward pass.
"""

from __future__ import annotations

import time
import weakref

from . import facts
from .program import hand_on
from .root_call import RootCall
from .several import SeveralThreads

_SEEK_S = 0.4  # s without a step after which the root is looked for
_HAND_S, _HAND_BACKWARDS = (
    5.0,
    100,
)  # s and backward passes without a step of an optimizer that was once made: none is used
_NO_MODULE_BACKWARDS = 3  # backward passes after which a loop that calls no module is taken to use none
_QUIET_S = 1.0  # s without a call by the known thread after which another thread may take over


class NoOptimizer:
    """Decides what a step is while no optimizer is known; does nothing once one is."""

    def __init__(self, torch, watch):
        self._torch = torch
        self._watch = watch
        self._began = time.monotonic()
        self.root_call = RootCall(torch, watch)
        self._no_module = False
        self._sought_from = None
        self._last = 0.0
        self._several = None

    # The agent's side

    def tick(self):
        """Look for the root once it is clear that no optimizer steps."""
        watch, clock = self._watch, self._watch.clock
        if not watch.on or watch.optimizers or (clock.backward_seen and not self._by_hand()):
            self.root_call.stop()
            return
        if watch.is_compiled():
            return  # a hook or a patch would have its guards fail
        self.root_call.tick()
        if time.monotonic() - self._began < _SEEK_S or clock.begun:
            return
        if clock.backward_seen and self._calls_no_module():
            self._no_module = True
            self.root_call.stop()
        else:
            self.root_call.seek()

    def _by_hand(self):
        """Whether parameters are updated without an optimizer. One that steps rarely must not be overlooked."""
        waited = time.monotonic() - self._began > _HAND_S and self._watch.clock.backwards > _HAND_BACKWARDS
        return waited or not facts.optimizer_was_made(self._torch)

    def _calls_no_module(self):
        """Whether backward passes go by, and nobody was seen calling a module."""
        backwards = self._watch.clock.backwards
        if self._sought_from is None:
            self._sought_from = backwards
        return backwards - self._sought_from >= _NO_MODULE_BACKWARDS and not self.root_call.found_any

    def rows(self):
        """Steps of calls by several threads, as the clock makes rows of others."""
        if self._several is None:
            return []
        clock = self._watch.clock
        if clock.marks is not None and not clock.marks.single_call:
            # The thread whose steps were counted before may never call again.
            clock.disarm_now()
        return self._several.rows()

    # The program's threads

    def root_called(self, ident, now):
        """The root is called. Returns what `root_returned` has to be given when that call is over, or None."""
        watch, clock = self._watch, self._watch.clock
        try:
            if watch.optimizers:
                return None
            if not clock.backward_seen:
                return self._inference(ident, now)
            if self._torch.is_grad_enabled() and clock.trainer_or(ident) == ident and clock.between_steps:
                clock.boundary(now)
        except Exception as error:
            hand_on(error)
            watch.errors += 1
        return None

    def _inference(self, ident, now):
        clock = self._watch.clock
        if self._several is None:
            if clock.trainer in (None, ident) or now - self._last > _QUIET_S:
                self._last = now
                clock.boundary(now)
                return None
            self._several = SeveralThreads(clock, self._watch.budget, self._last)
        return self._several.call(ident, now)

    def compiled_called(self, module, ident, now):
        """The wrapper of a compiled module is called; see `root_called`."""
        watch, clock = self._watch, self._watch.clock
        try:
            if clock.marks is not None and clock.trainer == ident:
                clock.disarm_now()
            if watch.compiled is None:
                self.root_call.stop()
                watch.compiled = weakref.ref(module)
            if watch.compiled() is module:
                return self.root_called(ident, now)
        except Exception as error:
            hand_on(error)
            watch.errors += 1
        return None

    def root_returned(self, call):
        """That call is over."""
        try:
            self._several.ended(call)
        except Exception as error:
            hand_on(error)
            self._watch.errors += 1

    def backward_ended(self):
        """A backward pass is over."""
        try:
            if self._no_module and not self._watch.optimizers:
                self._watch.clock.boundary(time.perf_counter())
        except Exception as error:
            hand_on(error)
            self._watch.errors += 1
