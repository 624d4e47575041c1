"""Steps of a loop without an optimizer: calls of its root module, seen by a patch on that module's class.

No global hook stays: one finds the root (the first module that is called from outside any module), then goes.
"""

from __future__ import annotations

import functools
import sys
import time
import weakref
from _thread import get_ident

from .hookdict import Hook
from .patch import Patch

_QUIET_S = 1.0  # s without a call on the known thread after which another thread may take over


class RootCall:
    """Finds the root, then makes each call of it a step boundary."""

    def __init__(self, torch, watch):
        self._module_file = sys.modules["torch.nn.modules.module"]
        self._watch = watch
        self._found = None
        self._patch = None
        self._last = 0.0
        self._hook = Hook(self._module_file._global_forward_pre_hooks, self._look, "root finder")
        self._compiling = torch.compiler.is_compiling if hasattr(torch, "compiler") else lambda: False

    def seek(self):
        """Agent thread: start looking."""
        self._hook.add()

    def tick(self):
        """Agent thread: once a root is known, take the hook out and put the patch in."""
        root = self._found() if self._found is not None else None
        if root is None or self._patch is not None:
            return
        self._hook.remove()
        kind = type(root)
        if getattr(root, "_compiled_call_impl", None) is None:
            self._patch = Patch(kind, "__call__", self._make_call)

    def stop(self):
        """Take everything out; returns labels of what had to stay."""
        left = [] if self._hook.remove() else [self._hook.label]
        if self._patch is not None and not self._patch.undo():
            left.append(self._patch.label)
        else:
            self._patch = None
        return left

    @property
    def active(self):
        """Whether root calls are boundaries now."""
        return self._patch is not None

    def _look(self, module, _args):
        if self._compiling() or self._found is not None or not self._watch.on:
            return
        frame = sys._getframe(1)
        inside = 0
        while frame is not None and inside < 2:
            # One such frame is the call of `module` itself, a second one somebody above it.
            if frame.f_code.co_name == "_call_impl" and frame.f_code.co_filename == self._module_file.__file__:
                inside += 1
            frame = frame.f_back
        if inside < 2:
            self._found = weakref.ref(module)

    def _make_call(self, original):
        watch, found = self._watch, self._found

        @functools.wraps(original)
        def __call__(self, *args, **kwargs):
            if watch.on and self is found():
                watch.root_called(get_ident(), time.perf_counter())
            return original(self, *args, **kwargs)

        return __call__

    def accept(self, ident, now):
        """Whether a call on thread `ident` counts: one thread's calls make the steps."""
        clock = self._watch.clock
        if clock.trainer not in (None, ident) and now - self._last < _QUIET_S:
            return False
        self._last = now
        return True
