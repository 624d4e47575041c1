"""Modules seen so far: a small number for each, and what the monitor needs to name and size them."""

from __future__ import annotations

import time
import weakref

from ..wire import MODULE_LIMIT as LIMIT  # a loop that makes new ones in every step must not fill the memory

_PAUSE_EVERY = 64  # modules described before the GIL is given away for a moment


class ModuleTable:
    """Numbers modules in order of appearance. Holds no module alive."""

    def __init__(self):
        self.index_of = {}
        self._refs = []
        self._described = set()
        self.kinds = []

    def add(self, module):
        """Number `module` (training thread, first sight of it); None when there are too many already."""
        if len(self._refs) >= LIMIT:
            return None
        key = id(module)
        index = len(self._refs)
        # The entry goes when the module goes: its id may then belong to another object.
        self._refs.append(weakref.ref(module, lambda _, key=key: self.index_of.pop(key, None)))
        self.kinds.append(type(module).__name__)
        self.index_of[key] = index
        return index

    def __len__(self):
        return len(self._refs)

    def module(self, index):
        """The module behind a number, None when it is gone."""
        return self._refs[index]()

    def describe(self, roots):
        """Rows [index, root, name, type, parameters, bytes, flops_per_output, leaf] of modules not described yet.

        roots: indices of root modules. Runs on the agent thread and gives the GIL away now and then; a module list
        that the program changes meanwhile raises RuntimeError: try again.
        """
        rows = []
        for root in roots:
            top = self.module(root)
            if top is None:
                # Made for one step and gone again, as a loss often is.
                self._described.add(root)
                rows.append([root, root, "", self.kinds[root], 0, 0, None, True])
                continue
            for count, (name, module) in enumerate(top.named_modules()):
                index = self.index_of.get(id(module))
                if index is not None and index not in self._described:
                    self._described.add(index)
                    rows.append([index, root, name, *_facts(module)])
                if count % _PAUSE_EVERY == _PAUSE_EVERY - 1:
                    time.sleep(0.0005)
        for index in range(len(self._refs)):
            module = None if index in self._described else self.module(index)
            if module is not None:
                self._described.add(index)
                rows.append([index, -1, "", *_facts(module)])
        return rows

    def parameters_in(self, index):
        """Number of parameters under a root, 0 when it has none or is gone."""
        module = self.module(index)
        return 0 if module is None else sum(1 for _ in module.parameters())


def _facts(module):
    # A lazy parameter has no size before its first forward.
    own = [p for p in module.parameters(recurse=False) if not hasattr(p, "cls_to_become")]
    return [
        type(module).__name__,
        sum(p.numel() for p in own),
        sum(p.numel() * p.element_size() for p in own),
        _flops_per_output(module),
        next(module.children(), None) is None,
    ]


def _flops_per_output(module):
    """Floating-point operations for each element of the output: a multiply-add counts two; None without a formula."""
    kind = type(module).__name__
    if kind in ("Linear", "NonDynamicallyQuantizableLinear"):
        return 2 * module.in_features
    if kind in ("Conv1d", "Conv2d", "Conv3d"):
        size = 1
        for extent in module.kernel_size:
            size *= extent
        return 2 * size * module.in_channels // module.groups
    return None
