"""The thread inside the target that serves monitors, and takes everything out when the last one has gone.

It does little and in small pieces: whatever it computes, the training thread may be waiting for the GIL meanwhile.
"""

from __future__ import annotations

import base64
import os
import select
import socket
import struct
import sys
import time

from . import wire
from .client import Client
from .watch import facts
from .watch.watch import Watch

_TICK_S = 0.1
_HEALTH_S = 1.0
_PART = 30_000  # marks in one message: 16 bytes each, in base64, stay under the limit of a line
_PAUSE_S = 0.0005  # s for which the GIL is given away between pieces of work
_DETACH_S = 10.0  # s after which what cannot be taken out safely is left, and listed


def serve(listener, first, path, tokens):
    """Run until the last client has gone. `listener` and `first` are the connector's; `path` is the socket's name."""
    agent = Agent(listener, path, tokens)
    try:
        agent.admit(first.dup())
        agent.run()
    finally:
        agent.leave()


class Agent:
    """State of one attach: clients, the watch, and what has been told already."""

    def __init__(self, listener, path, tokens):
        listener.setblocking(False)
        self._listener = listener
        self._path = path
        self._tokens = tokens
        self._clients = []
        self._arriving = []
        self._watch = None
        self._roots = {}
        self._facts = {}
        self._memory = None
        self._armed_in = False
        self._shapes_sent = 0
        self._errors = 0
        self._dropped = 0
        self._goodbye = None

    # Clients

    def admit(self, sock):
        """Serve a client whose handshake is done."""
        client = Client(sock)
        self._clients.append(client)
        torch = sys.modules.get("torch")
        hello = {
            "pid": os.getpid(),
            "uid": os.geteuid(),
            "python": ".".join(str(part) for part in sys.version_info[:3]),
            "torch": str(torch.__version__) if torch is not None else None,
            "argv": list(getattr(sys, "orig_argv", sys.argv))[:50],
            "t": time.monotonic(),
        }
        client.send(wire.HELLO, wire.VERSION, hello)
        if self._watch is not None:
            self._send_known(client)

    def _send_known(self, client):
        """What earlier clients have been told: facts and modules."""
        if self._facts:
            client.send(wire.FACTS, wire.VERSION, {"facts": self._facts})
        for message in self._roots.values():
            client.send(wire.MODULES, wire.VERSION, message)

    def _accept(self):
        """Take one new connection through the handshake, a piece at a time: never waiting for it."""
        try:
            sock = self._listener.accept()[0]
        except OSError:
            return
        uid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        if uid not in (0, os.geteuid()) or len(self._clients) >= wire.CLIENTS:
            sock.close()
            return
        sock.setblocking(False)
        self._arriving.append((sock, time.monotonic() + 2.0))

    def _greet(self):
        waiting = []
        for sock, deadline in self._arriving:
            try:
                said = sock.recv(len(self._tokens[0]))
            except BlockingIOError:
                if time.monotonic() < deadline:
                    waiting.append((sock, deadline))
                else:
                    sock.close()
                continue
            except OSError:
                said = b""
            if said != self._tokens[0]:
                sock.close()
                continue
            version = ".".join(str(part) for part in sys.version_info[:3])
            sock.send(self._tokens[1] + (" %s - live\n" % version).encode())
            self.admit(sock)
        self._arriving = waiting

    def _tell(self, kind, body):
        for client in self._clients:
            client.send(kind, wire.VERSION, body)

    # Life

    def run(self):
        """Serve until no client is left or one asks for a detach and none other is there."""
        began = time.monotonic()
        health_due = began
        while self._clients or self._arriving:
            before = time.monotonic()
            self._wait(_TICK_S)
            now = time.monotonic()
            stalled = max(0.0, now - before - 1.0)
            for client in self._clients:
                if client.silent(now, stalled):
                    client.gone = True
            self._drop_gone()
            if not self._clients:
                continue
            try:
                self._start()
                self._collect()
                if now >= health_due:
                    health_due = now + _HEALTH_S
                    self._tell(wire.HEALTH, self._health())
            except Exception as error:
                self._errors += 1
                self._goodbye = "%s: %s" % (type(error).__name__, error)
            for client in self._clients:
                client.flush()

    def _wait(self, seconds):
        """Handle whatever arrives within `seconds`. poll, not select: a training job may hold thousands of files."""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        by_fd = {}
        for client in self._clients:
            by_fd[client.sock.fileno()] = client
            poll.register(client.sock, select.POLLIN | (select.POLLOUT if client.wants_to_write() else 0))
        for sock, _ in self._arriving:
            poll.register(sock, select.POLLIN)
        for fd, events in poll.poll(seconds * 1000):
            if fd == self._listener.fileno():
                self._accept()
            elif fd in by_fd:
                client = by_fd[fd]
                if events & ~select.POLLOUT:
                    for message in client.receive():
                        self._obey(client, message)
                if events & select.POLLOUT:
                    client.flush()
        self._greet()

    def _obey(self, client, message):
        """Do what a monitor asks. Unknown types are ignored: it may be newer than we are."""
        kind = message.get("type")
        watch = self._watch
        if kind == wire.DETACH:
            client.gone = True
        elif kind == wire.ARM and watch is not None:
            every = message.get("every")
            watch.budget.fixed = every if isinstance(every, int) and every >= 1 else None
            watch.budget.every = watch.budget.fixed or watch.budget.every
        elif kind == wire.BUDGET and watch is not None:
            share = message.get("share")
            if isinstance(share, (int, float)) and 0 < share <= 1:
                watch.budget.share = float(share)

    def _drop_gone(self):
        for client in [client for client in self._clients if client.gone]:
            self._dropped += client.dropped
            if len(self._clients) == 1:
                self._take_out()
                client.send(wire.BYE, wire.VERSION, {"left_behind": self._left_behind(), "errors": self._all_errors()})
                client.flush()
            client.close()
            self._clients.remove(client)

    def _start(self):
        torch = sys.modules.get("torch")
        ready = torch is not None and hasattr(torch, "optim") and hasattr(torch, "compiler")
        if self._watch is None and ready:
            self._watch = Watch(torch)
        if self._watch is not None and not self._armed_in:
            self._armed_in = self._watch.attach()

    def _take_out(self):
        """Everything inert at once, and out as soon as it is safe."""
        watch, self._watch_done = self._watch, True
        if watch is None:
            return
        watch.silence()
        deadline = time.monotonic() + _DETACH_S
        clean = False
        while time.monotonic() < deadline:
            again = clean
            clean = watch.detach()
            if clean and again:
                break  # twice: the training thread may have been arming while the first pass went by
            time.sleep(0.005)

    def _left_behind(self):
        return list(self._watch.left_behind) if self._watch is not None else []

    def leave(self):
        """Close and forget everything that is ours. The connector unlinks the socket."""
        if self._watch is not None and self._watch.on:
            self._take_out()
        for client in self._clients:
            client.close()
        for sock, _ in self._arriving:
            sock.close()
        self._clients, self._arriving, self._watch = [], [], None

    # Telling

    def _collect(self):
        watch = self._watch
        if watch is None:
            if not self._facts:
                self._facts = facts.process_facts(None)
                self._tell(wire.FACTS, {"facts": self._facts})
            return
        watch.tick()
        rows, closed = watch.clock.take()
        if rows:
            self._tell(wire.STEP, {"rows": [[_finite(value) for value in row] for row in rows]})
        for marks in closed:
            self._tell_marks(marks)
            time.sleep(_PAUSE_S)
        if watch.timeline is not None:
            for step, times in watch.timeline.collect():
                self._tell(wire.LAYERS, {"step": step, "device_times": _pack("d", [t for _, t in times]),
                                         "positions": _pack("q", [position for position, _ in times])})
        loss = watch.loss.read()
        if loss is not None:
            self._tell(wire.LAYERS, {"loss": loss[0], "loss_finite": loss[1]})
        if watch.memory is not self._memory:
            self._memory = watch.memory
            self._tell(wire.MEMORY, dict(watch.memory))
        self._tell_facts()

    def _tell_marks(self, marks):
        """One armed step: its marks as they are, in parts. The monitor does the arithmetic."""
        began, ended, number, optimizers = marks.step
        self._tell_modules(marks)
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
                    cost_s=self._watch.budget.cost_of(marks),
                    calls=marks.calls,
                    taps=marks.taps,
                    loss_s=marks.loss_s,
                    optimizers=optimizers,
                    roots=sorted(marks.roots),
                    batch=marks.batch,
                    micro_batch=marks.micro_batch,
                    tokens=marks.tokens,
                    training=bool(marks.grad_roots),
                    evaluating=bool(marks.eval_roots),
                    dropped=marks.dropped,
                )
                if marks.shapes is not None:
                    body["shapes"] = [[index, *known] for index, known in list(marks.shapes.items())[:5000]]
            self._tell(wire.LAYERS, body)
            time.sleep(_PAUSE_S)
        self._errors += marks.errors
        self._dropped += marks.dropped

    def _tell_modules(self, marks):
        table = self._watch.table
        new_roots = [root for root in marks.roots if root not in self._roots]
        if not new_roots and self._known_modules == len(table):
            return
        try:
            rows = table.describe(new_roots)
        except RuntimeError:
            return  # the program was changing its modules just now: with the next armed step
        self._known_modules = len(table)
        for root in new_roots or [-1]:
            module = table.module(root) if root >= 0 else None
            message = {
                "root": root,
                "class": type(module).__name__ if module is not None else None,
                "parameters": table.parameters_in(root) if root >= 0 else None,
                "rows": [row for row in rows if row[1] == root or (row[1] == -1 and root == (new_roots or [-1])[-1])],
            }
            self._roots[root if root >= 0 else -1 - len(self._roots)] = message
            self._tell(wire.MODULES, message)

    _known_modules = 0

    def _tell_facts(self):
        watch = self._watch
        known = facts.process_facts(watch.torch)
        if watch.loader is not None:
            known["loader"] = watch.loader
        alive = [ref() for ref in list(watch.optimizers.values())]
        known["optimizers"] = [facts.optimizer_facts(optimizer) for optimizer in alive if optimizer is not None]
        known["grad_scaler"] = watch.loss._scaled
        roots = [watch.table.module(index) for index in self._roots if index >= 0]
        if len(roots) != self._facts_roots:
            self._facts_roots = len(roots)
            self._model = facts.model_facts(watch.torch, [root for root in roots if root is not None])
        known.update(self._model)
        if known != self._facts:
            self._facts = known
            self._tell(wire.FACTS, {"facts": known})

    _facts_roots = 0
    _model = {}

    def _all_errors(self):
        return self._errors + (self._watch.errors if self._watch is not None else 0)

    def _health(self):
        watch = self._watch
        body = {
            "errors": self._all_errors(),
            "last_error": self._goodbye,
            "dropped": self._dropped + sum(client.dropped for client in self._clients),
            "left_behind": self._left_behind(),
            "hooked": self._armed_in,
            "t": time.monotonic(),
        }
        if watch is not None:
            body.update(
                cost_share=watch.budget.cost_share(),
                sampled_steps=watch.budget.armed,
                every=watch.budget.every,
                step_rows_dropped=watch.clock.dropped,
                compiled=bool(facts.compiled_frames()),
                root_calls=watch._root_call.active,
            )
        return body


def _finite(value):
    return value if value is None or value == value and abs(value) != float("inf") else None


def _pack(kind, values):
    return base64.b64encode(struct.pack("%d%s" % (len(values), kind), *values)).decode()
