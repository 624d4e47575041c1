"""What dynamo compiles must meet nothing of ours, neither while it compiles nor when what it compiled is called.

With a global hook in place the wrapper that `torch.compile(model)` returns warns on the job's stderr, and what was
compiled with or without that hook is compiled again once it has gone or come.
"""

from __future__ import annotations

import sys
import time
import types
from _thread import get_ident

from .modes import compiling
from .patch import Patch


def loaded():
    """Whether dynamo is there: without it nothing has been compiled in this process."""
    frames = sys.modules.get("torch._dynamo.eval_frame")
    return hasattr(frames, "OptimizedModule") and not getattr(frames.__spec__, "_initializing", False)


def patch_compiled(torch, watch):
    """Tell the watch of calls of compiled modules, before anything in them runs, and of compilations."""
    if not loaded():
        return
    _keep_out_of_dynamo()
    is_compiling = compiling(torch)

    def make(original):
        def __call__(self, *args, **kwargs):
            if is_compiling() or not watch.on:
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
    callbacks = sys.modules.get("torch._dynamo.callback")
    handler = getattr(callbacks, "CompilationCallbackHandler", None)
    if hasattr(handler, "run_start_callbacks"):
        yield Patch(handler, "run_start_callbacks", _tell_of_compilations(watch))


def _tell_of_compilations(watch):
    """Runs before dynamo looks at the first frame. On the class: `torch._dynamo.reset()` forgets registered callbacks."""

    def make(original):
        def run_start_callbacks(*args, **kwargs):
            if watch.on:
                watch.compilation_begins()
            return original(*args, **kwargs)

        return run_start_callbacks

    return make


def _keep_out_of_dynamo():
    """Have dynamo run our own functions as they are.

    It would compile those that are called from a frame that it looks at and does not compile: our hooks, below a
    module that was compiled in place and turned out to be one to skip (measured: nn.Sequential), and `backward`.
    """
    skip = getattr(sys.modules["torch._dynamo.eval_frame"], "skip_code", None)
    if skip is None:
        return
    ours = __name__.rpartition(".watch.")[0]
    for name, module in list(sys.modules.items()):
        if name == ours or name.startswith(ours + "."):
            for code in _codes(module):
                skip(code)


def _codes(module):
    """Every code object of the functions and methods that `module` defines."""
    defined = list(vars(module).values())
    for value in list(defined):
        if isinstance(value, type) and value.__module__ == module.__name__:
            defined += vars(value).values()
    functions = [value.fget if isinstance(value, property) else value for value in defined]
    codes = [f.__code__ for f in functions if isinstance(f, types.FunctionType) and f.__globals__ is vars(module)]
    for code in codes:
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return codes
