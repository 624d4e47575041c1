"""Checkpoints that the training thread writes itself: how long each takes, and the line that asks for it.

The functions that frameworks end in are patched, in modules that are loaded later, too. One that calls another counts
once, as the outermost. Some are there twice, as what the user calls and as what that calls by name: a program that did
`from torch import save` before we came calls the former without our knowing. Where pickle looks for a function by the
name that we would patch (numpy.save), what that calls is patched instead: a program may send the original away.
"""

from __future__ import annotations

import sys
import time
import types
from _thread import get_ident
from collections import deque

from ..wire import CHECKPOINT
from .patch import Patch
from .program import hand_on

_KEEP = 1000  # saves between two visits of the agent; older ones are dropped
_ANY, _CHECKPOINT = False, True  # what the function writes: a save of anything makes a step unlike others only if long
_UNLIKE = 0.1  # of a usual step: a save of anything that takes less changes nothing in the step

_FUNCTIONS = (
    ("torch", "save", "torch.save", _CHECKPOINT),
    ("torch.serialization", "_save", "torch.save", _CHECKPOINT),
    ("torch.serialization", "_legacy_save", "torch.save", _CHECKPOINT),
    ("torch.jit", "save", "torch.jit.save", _CHECKPOINT),
    ("torch.distributed.checkpoint", "save", "torch.distributed.checkpoint.save", _CHECKPOINT),
    ("torch.distributed.checkpoint", "async_save", "torch.distributed.checkpoint.async_save", _CHECKPOINT),
    (
        "torch.distributed.checkpoint.state_dict_saver",
        "_save_state_dict",
        "torch.distributed.checkpoint.save",
        _CHECKPOINT,
    ),
    ("safetensors.torch", "serialize_file", "safetensors.torch.save_file", _CHECKPOINT),
    ("pickle", "dump", "pickle.dump", _ANY),
    ("numpy.lib.format", "write_array", "numpy.save", _ANY),
)


class Saving:
    """Writes, each handed out once: (t, s, function, line or None)."""

    def __init__(self, watch):
        self.saves = deque(maxlen=_KEEP)
        self._watch = watch
        self._waiting = list(_FUNCTIONS)
        self._inside = False

    def patches(self, _torch, _watch):
        """Patches of functions whose module is loaded by now and was not at the last call."""
        for function in list(self._waiting):
            module = sys.modules.get(function[0])
            # Any other type of module may load itself when it is looked into.
            if type(module) is not types.ModuleType or getattr(module.__spec__, "_initializing", False):
                continue
            self._waiting.remove(function)
            if callable(vars(module).get(function[1])):
                yield Patch(module, function[1], self._maker(*function[2:]))

    def _maker(self, shown, checkpoint):
        watch = self._watch

        def make(original):
            def save(*args, **kwargs):
                if not watch.on or self._inside or get_ident() != watch.clock.trainer:
                    return original(*args, **kwargs)
                if checkpoint:
                    watch.clock.tag(CHECKPOINT)
                began = time.perf_counter()
                try:
                    self._inside = True
                    return original(*args, **kwargs)
                finally:
                    ended = time.perf_counter()
                    self._inside = False
                    self._note(shown, began, ended, checkpoint)

            return save

        return make

    def _note(self, shown, began, ended, checkpoint):
        watch = self._watch
        try:
            if not checkpoint:
                usual = watch.budget.usual_s
                if usual is None or ended - began < _UNLIKE * usual:
                    return
                watch.clock.tag(CHECKPOINT)
            self.saves.append((ended, ended - began, shown, watch.program.line(sys._getframe(2))))
        except Exception as error:
            hand_on(error)
            watch.errors += 1
