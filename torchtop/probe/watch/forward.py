"""The two global forward hooks of an armed step, and the graph node hooks that they plant for backward.

Never `register_full_backward_hook`: it wraps outputs in a view and raises in user code on in-place operations.
Instead, the node that produced a module's output is told to note when backward reaches it, and the node that produced
the input when backward leaves the module. Node hooks die with the graph.
"""

from __future__ import annotations

import sys
import time
from _thread import get_ident
from collections import UserDict

from ..wire import BACKWARD_IN, BACKWARD_OUT, FORWARD_BEGIN, FORWARD_END, RECOMPUTE_BEGIN, RECOMPUTE_END
from .modes import compiling
from .passes import CALLS
from .program import hand_on


def _first_node(value, tensor_type):
    """The graph node of the first tensor in nested tuples, lists, dicts and dataclasses that has one."""
    if isinstance(value, tensor_type):
        return value.grad_fn
    for item in _items(value):
        if isinstance(item, tensor_type):
            node = item.grad_fn
        elif isinstance(item, (tuple, list, dict)):
            node = _first_node(item, tensor_type)
        else:
            continue
        if node is not None:
            return node
    return None


def _items(value):
    """What a container holds; nothing for anything else. Attributes of foreign objects are not touched."""
    if isinstance(value, (tuple, list)):
        return value
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, UserDict):  # what tokenizers make batches of
        return value.__dict__.get("data", {}).values()
    return getattr(value, "__dict__", {}).values() if hasattr(type(value), "__dataclass_fields__") else ()


def first_tensor(value, tensor_type):
    """The first tensor in nested tuples, lists, dicts and dataclasses, or None."""
    if isinstance(value, tensor_type):
        return value
    for item in _items(value):
        found = first_tensor(item, tensor_type)
        if found is not None:
            return found
    return None


def size_of(tensor):
    """(samples, tokens or None) of a batch that begins with this tensor; None when it is none."""
    if tensor is None or tensor.dim() == 0:
        return None
    worded = tensor.dim() == 2 and not (tensor.is_floating_point() or tensor.is_complex())
    return tensor.shape[0], tensor.shape[0] * tensor.shape[1] if worded else None


def node_hook(marks, kind, index):
    """A hook for one graph node, which notes one mark as long as its step is open."""

    def note(_gradients):
        if marks.open:
            thread = get_ident()
            marks.note(kind, None, index, 0 if thread == marks.trainer else marks.thread_of(thread))

    return note


def make_hooks(torch, marks, table, sites, passes):
    """(pre hook, post hook) for `Module.__call__` of every module, writing to `marks`, and to `sites` at first sight.

    `passes` has a look at the first calls.

    An exception of ours is counted and swallowed; one that belongs to the program (KeyboardInterrupt) is not.
    """
    now = time.perf_counter
    is_compiling = compiling(torch)
    graph_task = torch._C._current_graph_task_id
    grad_enabled = torch.is_grad_enabled
    index_of = table.index_of
    tensor_type = torch.Tensor
    last_output = [0]

    def before(module, args):
        if is_compiling():
            return
        began = now()
        try:
            if not marks.open or get_ident() != marks.trainer:
                return
            index = index_of.get(id(module))
            if index is None:
                index = table.add(module)
                if index is None:
                    return
                if graph_task() == -1:
                    sites.note(index, sys._getframe(1))
            if graph_task() != -1:
                marks.note(RECOMPUTE_BEGIN, None, index)
                return
            marks.calls += 1
            if marks.calls <= CALLS:
                passes.called(marks)
            depth = marks.depth
            marks.depth = depth + 1
            if depth == 0:
                _note_root(marks, index, module, args, grad_enabled(), tensor_type)
            if args and id(args[0]) != last_output[0]:
                # When the input is what the last module returned, backward's entry into that module says the same.
                node = _first_node(args, tensor_type)
                if node is not None:
                    node.register_prehook(node_hook(marks, BACKWARD_OUT, index))
                    marks.taps += 1
            ended = now()
            marks.note(FORWARD_BEGIN, ended, index)
            if depth:
                marks.spent_s += now() - began
            else:
                marks.outside_s += ended - began
                marks.spent_s += now() - ended
        except Exception as error:
            hand_on(error)
            marks.errors += 1

    def after(module, args, output):
        if is_compiling():
            return
        began = now()
        try:
            if not marks.open or get_ident() != marks.trainer:
                return
            index = index_of.get(id(module))
            if index is None:
                return
            recomputing = graph_task() != -1
            marks.note(RECOMPUTE_END if recomputing else FORWARD_END, began, index)
            if not recomputing:
                marks.depth -= 1
                last_output[0] = id(output)
            node = _first_node(output, tensor_type)
            if node is not None:
                node.register_prehook(node_hook(marks, BACKWARD_IN, index))
                marks.taps += 1
            if marks.shapes is not None and not recomputing:
                _note_output(marks, index, module, output, tensor_type)
            if marks.depth > 0 or recomputing:
                marks.spent_s += now() - began
            else:
                marks.depth = 0
                marks.outside_s += now() - began
                marks.root_ended()
        except Exception as error:
            hand_on(error)
            marks.errors += 1

    return before, after


def _note_root(marks, index, module, args, grad, tensor_type):
    """A module that the program called itself, not a module of its own."""
    marks.roots[index] = marks.roots.get(index, 0) + 1
    if not module.training:
        marks.eval_roots += 1
    elif grad:
        marks.grad_roots += 1
    if marks.stepped:
        # Another optimizer's turn (GAN): what counts is what went into the anchor's step, the last one.
        marks.stepped, marks.batch, marks.tokens, marks.batch_open = False, None, None, True
        marks.recalled = False
    if marks.batch_open:
        # A global hook is not shown keyword arguments: then what the loader handed out last has to do.
        size = size_of(first_tensor(args, tensor_type)) or marks.loaded
        if size is not None:
            samples, tokens = size
            marks.batch = (marks.batch or 0) + samples
            marks.micro_batch = samples
            if tokens is not None:
                marks.tokens = (marks.tokens or 0) + tokens
            marks.batch_open = False
            marks.batch_root = index
    elif index == marks.batch_root:
        marks.recalled = True


def _note_output(marks, index, module, output, tensor_type):
    """Shape, dtype and bytes of an output, on the steps that look closer."""
    tensor = first_tensor(output, tensor_type)
    if tensor is None:
        return
    known = marks.shapes.get(index)
    elements = tensor.numel() + (known[2] if known else 0)
    stored = known[3] if known else 0
    if tensor.requires_grad and next(module.children(), None) is None:
        try:
            storage = tensor.untyped_storage()
        except (RuntimeError, NotImplementedError):
            storage = None  # torch.func's wrappers have none of their own, nor have sparse tensors
        # A storage that several outputs share (in-place ReLU, views) is kept once.
        if storage is not None and storage.data_ptr() not in marks.storages:
            marks.storages.add(storage.data_ptr())
            stored += storage.nbytes()
    marks.shapes[index] = (tuple(tensor.shape), str(tensor.dtype).rpartition(".")[2], elements, stored)
