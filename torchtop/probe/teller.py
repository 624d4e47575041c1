"""What the agent tells its clients: steps, marks, pauses, modules, facts, memory, health. Raw as it is: the monitor computes."""

from __future__ import annotations

import base64
import math
import os
import struct
import sys
import time

from . import wire
from .pause_teller import PauseTeller
from .watch import facts
from .watch.program import plain
from .weight_teller import WeightTeller

_PART = 20_000  # marks in one message: 16 bytes each in base64, and the shapes, stay under the limit of a line
_ROWS = 500  # modules in one message: writing it takes about a millisecond, in which nobody else has the GIL
_PAUSE_S = 0.0005  # s for which the GIL is given away between pieces of work
_FACTS_S = 2.0  # s between two looks at settings that may change
_SHAPES = 5_000  # modules whose output shape goes into one message


class Teller:
    """Turns what the watch has seen into messages; `send(kind, body)` goes to every client."""

    def __init__(self, send):
        self._send = send
        self._modules = {}
        self._described = 0
        self._sites = []
        self._rows_told = 0
        self._calls_told = 0
        self._facts = {}
        self._facts_due = 0.0
        self._model = {}
        self._model_roots = 0
        self._memory = None
        self.weights = WeightTeller(send)
        self._restarts = 0
        self._pauses = PauseTeller(send)
        self.errors = 0
        self.dropped = 0

    def hello(self):
        """Who we are."""
        torch = sys.modules.get("torch")
        return {
            "pid": os.getpid(),
            "uid": os.geteuid(),
            "python": python_version(),
            "torch": str(torch.__version__) if torch is not None else None,
            "t": time.monotonic(),
        }

    def known(self):
        """(kind, body) of all that a client who comes later has missed and needs."""
        messages = [(wire.MODULES, part) for body in self._modules.values() for part in _in_parts(body)]
        messages += [(wire.SITES, body) for body in self._sites]
        if self._facts:
            messages.append((wire.FACTS, {"facts": self._facts}))
        if self._memory:
            messages.append((wire.MEMORY, self._memory))
        messages += self._pauses.known()
        return messages + [(wire.WEIGHTS, body) for body in self.weights.known]

    def tell(self, watch):
        """Everything new since the last call. Runs on the agent thread, in pieces."""
        if watch is None:
            if not self._facts:
                self._facts = facts.process_facts(None)
                self._send(wire.FACTS, {"facts": self._facts})
            return
        rows, closed, restarts = watch.take()
        if rows or restarts != self._restarts:
            body = {"rows": [[_finite(value) for value in row] for row in rows], "reset": restarts != self._restarts}
            self._restarts = restarts
            self._send(wire.STEP, body)
        for marks in closed:
            watch.passes.take(marks)
            self._tell_modules(watch, marks)
            self._tell_marks(watch, marks)
        if closed:
            self._tell_sites(watch.sites)
        if watch.timeline is not None:
            self._tell_device_times(watch.timeline)
        self._pauses.tell(watch)
        loss = watch.loss.read()
        if loss is not None:
            self._send(wire.LAYERS, {"loss": loss[0], "loss_finite": loss[1]})
        if watch.optimizers.memory is not self._memory:
            self._memory = watch.optimizers.memory
            self._send(wire.MEMORY, self._memory)
        now = time.monotonic()
        if now >= self._facts_due or closed and not self._model:
            self._facts_due = now + _FACTS_S
            self._tell_facts(watch)
        self.weights.tell(watch, [index for index, body in self._modules.items() if body["parameters"]])

    def _tell_marks(self, watch, marks):
        began, ended, number = marks.step
        count = min(len(marks.times), len(marks.codes))
        parts = max(1, -(-count // _PART))
        for part in range(parts):
            cut = slice(part * _PART, min((part + 1) * _PART, count))
            body = {"step": number, "part": part, "parts": parts}
            body["times"] = base64.b64encode(marks.times[cut].tobytes()).decode()
            body["codes"] = base64.b64encode(marks.codes[cut].tobytes()).decode()
            if part == parts - 1:
                body.update(
                    t0=began,
                    t1=ended,
                    cost_s=watch.budget.cost_of(marks),
                    calls=marks.calls - sum(marks.roots.values()),
                    taps=marks.taps,
                    loss_s=marks.loss_s,
                    batch=marks.batch,
                    micro_batch=marks.micro_batch,
                    recalled=marks.recalled,
                    tokens=marks.tokens,
                    training=bool(marks.grad_roots),
                    evaluating=bool(marks.eval_roots),
                    dropped=marks.dropped,
                )
                if marks.shapes is not None:
                    body["shapes"] = [[index, *known] for index, known in list(marks.shapes.items())[:_SHAPES]]
            self._send(wire.LAYERS, body)
            time.sleep(_PAUSE_S)
        self.errors += marks.errors
        self.dropped += marks.dropped

    def _tell_device_times(self, timeline):
        for step, times in timeline.collect():
            body = {"step": step, "device_times": _pack("d", [t for _, t in times])}
            body["positions"] = _pack("q", [position for position, _ in times])
            self._send(wire.LAYERS, body)

    def _tell_modules(self, watch, marks):
        table = watch.table
        new = [root for root in marks.roots if root not in self._modules]
        if not new and self._described == len(table):
            return
        try:
            rows = table.describe(new or list(self._modules))
        except RuntimeError:
            return  # the program was changing its modules just now: with the next armed step
        self._described = len(table)
        for root in {row[1] for row in rows} | set(new):
            body = {
                "root": root,
                "class": table.kinds[root] if root >= 0 else None,
                "parameters": table.parameters_in(root) if root >= 0 else None,
                "rows": [row for row in rows if row[1] == root],
            }
            earlier = self._modules.get(root)
            self._modules[root] = dict(body, rows=earlier["rows"] + body["rows"]) if earlier else body
            for part in _in_parts(body):
                self._send(wire.MODULES, part)
                time.sleep(_PAUSE_S)

    def _tell_sites(self, sites):
        calls = sites.called[self._calls_told :]
        rows = sites.rows[self._rows_told :]  # after the calls: then what they point at is among them
        for at in range(0, max(len(calls), len(rows)), _ROWS):
            frames = [
                [caller, plain(function), plain(file), line] for caller, function, file, line in rows[at : at + _ROWS]
            ]
            first = self._rows_told + min(at, len(rows))
            body = {"first": first, "frames": frames, "calls": calls[at : at + _ROWS]}
            self._sites.append(body)
            self._send(wire.SITES, body)
            time.sleep(_PAUSE_S)
        self._calls_told += len(calls)
        self._rows_told += len(rows)

    def _tell_facts(self, watch):
        known = facts.process_facts(watch.torch)
        loader = watch.loaders.told()
        if loader is not None:
            known["loader"] = loader
        known["optimizers"] = [facts.optimizer_facts(optimizer) for optimizer in watch.optimizers.alive()]
        known["training_tid"] = watch.clock.native_trainer
        passes, parallel = watch.passes, watch.passes.parallel()
        known["autocast"], known["autocast_seen"] = passes.autocast, passes.forward_seen
        known["grads_kept"] = passes.kept
        known["synced_passes"] = passes.synced()
        if parallel:
            known["find_unused_parameters"] = bool(getattr(parallel[0], "find_unused_parameters", False))
        compilations = facts.compilations()
        known["compilations"] = self._facts.get("compilations", []) if compilations is None else compilations
        known["grad_scaler"] = watch.loss.scaled
        roots = [watch.table.module(index) for index in self._modules if index >= 0]
        if len(roots) != self._model_roots:
            self._model_roots = len(roots)
            self._model = facts.model_facts(watch.torch, [root for root in roots if root is not None])
        known.update(self._model)
        if known != self._facts:
            self._facts = known
            self._send(wire.FACTS, {"facts": known})

    def health(self, watch, client_drops, agent_errors, last_error, hooked):
        """Body of a `health` message."""
        body = {
            "errors": self.errors + agent_errors + (watch.errors if watch is not None else 0),
            "last_error": last_error,
            "dropped": self.dropped + client_drops,
            "left_behind": list(watch.left_behind) if watch is not None else [],
            "hooked": hooked,
            "t": time.monotonic(),
        }
        if watch is not None:
            body.update(
                cost_share=watch.budget.cost_share(),
                sampled_steps=watch.budget.armed,
                every=watch.budget.every,
                step_rows_dropped=watch.clock.dropped,
                compiled=watch.is_compiled(),
                root_calls=watch.no_optimizer.root_call.active,
            )
        return body


def python_version():
    """ "3.11.7"."""
    return ".".join(str(part) for part in sys.version_info[:3])


def _in_parts(body):
    """A `modules` body as several of at most `_ROWS` rows each."""
    rows = body["rows"]
    return [dict(body, rows=rows[at : at + _ROWS]) for at in range(0, max(len(rows), 1), _ROWS)]


def _finite(value):
    return value if value is None or math.isfinite(value) else None


def _pack(kind, values):
    return base64.b64encode(struct.pack("%d%s" % (len(values), kind), *values)).decode()
