"""`zero_grad` of optimizers and modules: how long it takes, and who keeps the gradients as zeros.

Not while anything is compiled: dynamo may have looked into it, or may be going to.
"""

from __future__ import annotations

import sys
import time
from _thread import get_ident

from .patch import Patch
from .program import hand_on


class Clearing:
    """Sums since attach: calls, seconds, how many kept the gradients; kept_at: the line that did so for longest."""

    def __init__(self, watch):
        self.calls = 0
        self.seconds = 0.0
        self.kept = 0
        self.kept_at = None
        self._watch = watch
        self._longest_s = 0.0
        self._inside = False

    def patches(self, torch, _watch):
        """On the classes: a subclass that has its own and does not call theirs is not seen."""
        yield Patch(torch.optim.Optimizer, "zero_grad", self._make)
        yield Patch(torch.nn.Module, "zero_grad", self._make)

    def _make(self, original):
        # False before torch 2.0.
        defaults = getattr(original, "__defaults__", None) or (True,)
        watch = self._watch

        def zero_grad(*args, **kwargs):
            if not watch.on or self._inside or get_ident() != watch.clock.trainer:
                return original(*args, **kwargs)
            began = time.perf_counter()
            try:
                self._inside = True
                return original(*args, **kwargs)
            finally:
                took = time.perf_counter() - began
                self._inside = False
                self.calls += 1
                self.seconds += took
                frees = args[1] if len(args) > 1 else kwargs.get("set_to_none", defaults[0])
                if type(frees) in (bool, int) and not frees:
                    self.kept += 1
                    if took > self._longest_s:
                        self._longest_s = took
                        self._note_line()

        return zero_grad

    def _note_line(self):
        try:
            self.kept_at = self._watch.program.line(sys._getframe(2))
        except Exception as error:
            hand_on(error)
            self._watch.errors += 1
