"""The root module of a loop without an optimizer, and each call of it, seen by a patch on its class.

The root is the largest module that the program itself calls. No global hook stays: one finds the candidates, then goes.
"""

from __future__ import annotations

import sys
import time
import weakref
from _thread import get_ident

from .hookdict import Hook
from .modes import compiling
from .patch import Patch

_CHOOSE_S = 0.25  # s for which candidates are collected: a text encoder is called before the model that it feeds


class RootCall:
    """Finds the root, then tells the watch of each call of it."""

    def __init__(self, torch, watch):
        self._module_file = sys.modules["torch.nn.modules.module"]
        self._watch = watch
        self._seen = set()
        self._candidates = []
        self._since = None
        self._found = None
        self._patch = None
        self._hook = Hook(self._module_file._global_forward_pre_hooks, self._look, "root finder")
        self._compiling = compiling(torch)

    def seek(self):
        """Agent thread: start looking."""
        if self._patch is None:
            self._hook.add()

    def tick(self):
        """Agent thread: once the candidates are known, take the hook out and put the patch in."""
        if self._patch is not None or not self._candidates:
            return
        if self._since is None:
            self._since = time.monotonic()
        if time.monotonic() - self._since < _CHOOSE_S:
            return
        root = self._largest()
        if root is None:
            return
        self._hook.remove()
        self._found = weakref.ref(root)
        if getattr(root, "_compiled_call_impl", None) is None:
            self._patch = Patch(type(root), "__call__", self._make_call)
        self._seen, self._candidates = set(), []

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

    @property
    def found_any(self):
        """Whether anybody calls a module."""
        return self.active or bool(self._candidates)

    def _largest(self):
        """The candidate with the most parameters, the first of them if there are several; None while none lives."""
        alive = [module for module in (ref() for ref in self._candidates) if module is not None]
        try:
            return max(alive, key=lambda module: sum(p.numel() for p in module.parameters()), default=None)
        except (RuntimeError, ValueError):
            return None  # its modules are being changed, or it is lazy: at the next tick

    def _look(self, module, _args):
        if id(module) in self._seen or self._compiling() or not self._watch.on:
            return
        self._seen.add(id(module))
        frame = sys._getframe(1)
        inside = 0
        while frame is not None and inside < 2:
            # One such frame is the call of `module` itself, a second one somebody above it.
            if frame.f_code.co_name == "_call_impl" and frame.f_code.co_filename == self._module_file.__file__:
                inside += 1
            frame = frame.f_back
        if inside < 2:
            self._candidates.append(weakref.ref(module))

    def _make_call(self, original):
        watch, found = self._watch, self._found

        def __call__(self, *args, **kwargs):
            if not watch.on or self is not found():
                return original(self, *args, **kwargs)
            call = watch.no_optimizer.root_called(get_ident(), time.perf_counter())
            if call is None:
                return original(self, *args, **kwargs)
            try:
                return original(self, *args, **kwargs)
            finally:
                watch.no_optimizer.root_returned(call)

        return __call__
