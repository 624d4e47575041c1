"""The wrapper that `torch.compile(model)` returns: whoever calls it must meet no global hook of ours.

With one in place `OptimizedModule.__call__` warns on the job's stderr, and what dynamo compiled is compiled again.
"""

from __future__ import annotations

import functools
import sys
import time
from _thread import get_ident

from .patch import Patch


def loaded():
    """Whether dynamo is there: without it nothing has been compiled in this process."""
    return hasattr(sys.modules.get("torch._dynamo.eval_frame"), "OptimizedModule")


def patch_compiled(torch, watch):
    """Tell the watch of calls of compiled modules, before anything in them runs."""
    if not loaded():
        return
    compiling = torch.compiler.is_compiling if hasattr(torch, "compiler") else lambda: False

    def make(original):
        @functools.wraps(original)
        def __call__(self, *args, **kwargs):
            if compiling() or not watch.on:
                return original(self, *args, **kwargs)
            call = watch.no_optimizer.compiled_called(self, get_ident(), time.perf_counter())
            if call is None:
                return original(self, *args, **kwargs)
            try:
                return original(self, *args, **kwargs)
            finally:
                watch.no_optimizer.root_returned(call)

        return __call__

    yield Patch(sys.modules["torch._dynamo.eval_frame"].OptimizedModule, "__call__", make)
