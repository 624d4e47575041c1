"""Whether the program watches or reroutes operations on tensors just now: then it would meet those of ours."""

from __future__ import annotations

_DEFAULT_DEVICE = "torch.utils._device"  # torch.set_default_device: a mode that only looks at what makes new tensors


def compiling(torch):
    """`torch.compiler.is_compiling`; before torch has it, what never says so."""
    return getattr(getattr(torch, "compiler", None), "is_compiling", None) or _never


def _never():
    return False


def looked_at(torch):
    """Whether a mode sees every look at a tensor, even at its shape."""
    modes = getattr(torch._C, "_len_torch_function_stack", None)
    one = getattr(torch._C, "_get_function_stack_at", None)
    for at in range(modes() if modes is not None else 0):
        if one is None or type(one(at)).__module__ != _DEFAULT_DEVICE:
            return True
    return False


def rerouted(torch):
    """Whether a mode, torch.func or the tracer of torch.jit is at work. Takes some hundred ns."""
    core = torch._C
    dispatch = getattr(core, "_len_torch_dispatch_stack", None)
    if (dispatch is not None and dispatch()) or looked_at(torch):
        return True
    functorch = getattr(core, "_functorch", None)
    if functorch is not None and functorch.peek_interpreter_stack() is not None:
        return True
    tracing = getattr(core, "_get_tracing_state", None)
    return tracing is not None and tracing() is not None
