"""Patches that see backward passes, the GradScaler and validation go by. Resident; each a few hundred ns."""

from __future__ import annotations

import time
from _thread import get_ident

from ..wire import BACKWARD_BEGIN, BACKWARD_END, GRAD_BEGIN, GRAD_END, VALIDATION
from .patch import Patch
from .program import hand_on


def patch_backward(torch, watch):
    """What `torch.autograd.backward` and `grad` call by name, so bound methods count, too.

    Not those two: TorchScript knows them by their id, and a program that scripts a function with `grad` in it could not.
    """
    now = time.perf_counter
    cpu = time.thread_time
    inside = [False]

    def elsewhere():
        """Whether this call is not one to count: another thread's, or one from inside a backward pass.

        Reentrant checkpointing calls backward again from inside it: that is part of the outer one.
        """
        return not watch.on or inside[0] or get_ident() != watch.clock.trainer_or(get_ident())

    def begins(marks, tensors, in_optimizer):
        try:
            marks.backward_begins(in_optimizer)
            watch.passes.backward_begins(marks)
            loss = tensors if isinstance(tensors, torch.Tensor) else tensors[0]
            if isinstance(loss, torch.Tensor):  # else an edge of the graph
                watch.loss.copy(loss, watch.scale())
        except Exception as error:
            hand_on(error)
            watch.errors += 1

    def make_backward(original):
        def backward(tensors, *args, **kwargs):
            if elsewhere():
                return original(tensors, *args, **kwargs)
            entered = began = now()
            computed = None
            marks = watch.clock.marks
            in_optimizer = watch.optimizers.stepping
            try:
                inside[0] = True
                if marks is not None:
                    begins(marks, tensors, in_optimizer)
                # On CUDA another thread does the work, and this one waits for it in any case.
                computed = cpu() if watch.timeline is None else None
                began = now()
                if marks is not None:
                    # Now, not when it is over: an optimizer that steps inside it ends the step there.
                    marks.note(BACKWARD_BEGIN, began)
                    marks.outside_s += began - entered
                return original(tensors, *args, **kwargs)
            finally:
                ended = now()
                if computed is not None:
                    computed = cpu() - computed
                inside[0] = False
                watch.clock.backward(began, ended, in_optimizer, computed)
                marks = watch.clock.marks
                if marks is not None:
                    marks.note(BACKWARD_END, ended)
                    marks.backward_ended(in_optimizer)
                    marks.outside_s += now() - ended
                watch.no_optimizer.backward_ended()

        return backward

    def make_grad(original):
        def grad(*args, **kwargs):
            if elsewhere():
                return original(*args, **kwargs)
            marks = watch.clock.marks
            in_loss = marks is not None and marks.backward_begins(watch.optimizers.stepping)
            began = now()
            try:
                inside[0] = True
                return original(*args, **kwargs)
            finally:
                ended = now()
                inside[0] = False
                watch.clock.backward(began, ended, watch.optimizers.stepping, None, whole=False)
                if marks is not None:
                    marks.note(GRAD_BEGIN, began)
                    marks.note(GRAD_END, ended)
                    if in_loss:
                        marks.root_ended()

        return grad

    def make_both(original):
        backward, grad = make_backward(original), make_grad(original)

        def run_backward(*args, **kwargs):
            return (backward if kwargs.get("accumulate_grad") else grad)(*args, **kwargs)

        return run_backward

    if callable(vars(torch.autograd).get("_engine_run_backward")):
        yield Patch(torch.autograd, "_engine_run_backward", make_both)
    else:  # before torch 2.3
        yield Patch(torch.autograd, "backward", make_backward)
        yield Patch(torch.autograd, "grad", make_grad)


def patch_scaler(torch, watch):
    """GradScaler: `scale` says that the next loss carries its factor, `update` that an iteration is over."""
    scaler = getattr(torch.amp, "GradScaler", None) or torch.cuda.amp.GradScaler  # before torch 2.3

    def make_scale(original):
        def scale(self, *args, **kwargs):
            watch.scaler = self
            return original(self, *args, **kwargs)

        return scale

    def make_update(original):
        def update(self, *args, **kwargs):
            result = original(self, *args, **kwargs)
            watch.scaler = None
            if watch.on and get_ident() == watch.clock.trainer:
                watch.clock.scaler_updated(time.perf_counter())
            return result

        return update

    yield Patch(scaler, "scale", make_scale)
    yield Patch(scaler, "update", make_update)


def patch_tags(torch, watch):
    """`Module.eval`: it makes a step unlike the others."""

    def make(original):
        def tagged(*args, **kwargs):
            if watch.on and get_ident() == watch.clock.trainer:
                watch.clock.tag(VALIDATION)
            return original(*args, **kwargs)

        return tagged

    yield Patch(torch.nn.Module, "eval", make)
