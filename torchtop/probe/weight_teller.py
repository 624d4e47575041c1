"""What the agent tells of the weights: one scan, when a monitor asks for it, and what is known of gradients later."""

from __future__ import annotations

import time

from . import wire

_ROWS = 500  # modules or parameters in one message: writing it takes about a millisecond
_PAUSE_S = 0.0005  # s for which the GIL is given away between two messages


class WeightTeller:
    """known: bodies of the latest `weights` messages, for a client that comes later."""

    def __init__(self, send):
        self._send = send
        self._wanted = False
        self.known = []

    def want(self):
        """Have the weights scanned, as soon as there is a watch."""
        self._wanted = True

    def tell(self, watch, roots):
        """What is new. roots: places in the module table of the modules with parameters that the program calls itself."""
        if self._wanted:
            self._wanted = False
            watch.weights.want()
        if not watch.weights.wanted:
            return
        modules = [watch.table.module(index) for index in roots]
        if not modules and watch.compiled is not None:
            modules = [watch.compiled()]
        news = watch.weights.news([module for module in modules if module is not None])
        if news is None:
            return
        self.known = [{"reason": news}] if isinstance(news, str) else list(_in_parts(*news))
        for body in self.known:
            self._send(wire.WEIGHTS, body)
            time.sleep(_PAUSE_S)


def _in_parts(plan, known):
    """Modules first, `_ROWS` of them or of parameters in each message; what is true of the whole is in each, too."""
    whole = {name: value for name, value in known.items() if name not in ("rows", "loose")}
    lots = [("modules", plan.modules[: wire.MODULE_LIMIT]), ("rows", known["rows"]), ("loose", known["loose"])]
    cuts = [(name, lot[at : at + _ROWS]) for name, lot in lots for at in range(0, len(lot), _ROWS)]
    for number, (name, cut) in enumerate(cuts):
        yield {**whole, "part": number, "parts": len(cuts), name: cut}
