"""Which parameters a scan goes through: those of the root modules, each once however often it is tied."""

from __future__ import annotations

import time
import weakref

from ..wire import MODULE_LIMIT

_PAUSE_EVERY = 64  # modules gone through before the GIL is given away for a moment
MOST = 20_000  # parameters that are told of


class Parameter:
    """What is known of one without reading it, and its reading. Holds the module weakly, the parameter not at all.

    at: place of its module in the plan; changed: its values did, although no gradient was seen.
    """

    def __init__(self, module, at, name, parameter):
        self.module = weakref.ref(module)
        self.at = at
        self.name = name
        self.key = id(parameter)
        self.elements = parameter.numel()
        self.bytes = self.elements * parameter.element_size()
        self.trainable = bool(parameter.requires_grad)
        self.wide = parameter.dim() >= 2
        self.reading = None
        self.changed = None


class Plan:
    """modules: [place of its root, name in it, type] of every module; left_out: reason -> parameters."""

    def __init__(self, roots):
        """Agent thread. Raises RuntimeError when the program changes its modules meanwhile, and whatever they raise."""
        self.modules = []
        self.parameters = []
        self.elements = 0
        self.left_out = {}
        self._known = set()
        for root in roots:
            first = len(self.modules)
            for name, module in root.named_modules():
                self.modules.append([first, name, type(module).__name__])
                self._add_all(module, len(self.modules) - 1)
                if len(self.modules) % _PAUSE_EVERY == 0:
                    time.sleep(0.0005)

    def _add_all(self, module, at):
        if not isinstance(module._parameters, dict):
            self.leave_out("of scripted modules")
            return
        for name, parameter in list(module._parameters.items()):
            if parameter is None or id(parameter) in self._known:
                continue
            self._known.add(id(parameter))
            if hasattr(parameter, "cls_to_become"):
                self.leave_out("of lazy modules that were not called yet")
            elif len(self.parameters) >= MOST or at >= MODULE_LIMIT:
                self.leave_out("beyond the first %d parameters or %d modules" % (MOST, MODULE_LIMIT))
            else:
                self.parameters.append(Parameter(module, at, name, parameter))
                self.elements += self.parameters[-1].elements

    def leave_out(self, reason):
        """One parameter that cannot be read."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1
