"""The thread inside the target that serves monitors, and takes everything out when the last one has gone.

It does little and in small pieces: whatever it computes, the training thread may be waiting for the GIL meanwhile.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
import time

from . import wire
from .client import Client
from .teller import Teller, python_version
from .watch.budget import Budget
from .watch.watch import Watch

_NEEDED = ("torch", "torch.nn.modules.module", "torch.optim.optimizer", "torch.utils.data.dataloader")
_TICK_S = 0.1
_HEALTH_S = 1.0
_HANDSHAKE_S = 2.0
_DETACH_S = 10.0  # s after which what cannot be taken out safely is left, and listed
_STALL_S = 1.0  # s beyond a tick after which we were suspended, not the monitor


def serve(listener, first, tokens):
    """Run until the last client has gone; return (its socket, what to tell it once nothing of ours is left).

    `listener` and `first` are the connector's.
    """
    agent = Agent(listener, tokens)
    try:
        agent.admit(first.dup())
        agent.run()
    finally:
        agent.leave()
    return agent.last_words


class Agent:
    """Clients, and the watch that is in place as long as there is one."""

    def __init__(self, listener, tokens):
        listener.setblocking(False)
        self._listener = listener
        self._tokens = tokens
        self._clients = []
        self._arriving = []
        self._budget = Budget()
        self._watch = None
        self._hooked = False
        self._teller = Teller(self._tell)
        self._drops = 0
        self.last_words = None, b""
        self._errors = 0
        self._last_error = None

    # Clients

    def admit(self, sock):
        """Serve a client whose handshake is done."""
        client = Client(sock)
        self._clients.append(client)
        client.send(wire.HELLO, wire.VERSION, self._teller.hello())
        for kind, body in self._teller.known():
            client.send(kind, wire.VERSION, body)

    def _accept(self):
        """Begin the handshake of a new connection; it goes on in `_greet`, never waiting."""
        try:
            sock = self._listener.accept()[0]
        except OSError:
            return
        uid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        if uid not in (0, os.geteuid()) or len(self._clients) + len(self._arriving) >= wire.CLIENTS:
            sock.close()
            return
        sock.setblocking(False)
        self._arriving.append((sock, time.monotonic() + _HANDSHAKE_S))

    def _greet(self):
        ours, theirs = self._tokens
        waiting = []
        for sock, deadline in self._arriving:
            try:
                said = sock.recv(len(ours))
            except BlockingIOError:
                if time.monotonic() < deadline:
                    waiting.append((sock, deadline))
                else:
                    sock.close()
                continue
            except OSError:
                said = b""
            if said == ours:
                sock.send(theirs + (" %s - live\n" % python_version()).encode())
                self.admit(sock)
            else:
                sock.close()
        self._arriving = waiting

    def _tell(self, kind, body):
        for client in self._clients:
            client.send(kind, wire.VERSION, body)

    # Life

    def run(self):
        """Serve until no client is left."""
        health_due = time.monotonic()
        while self._clients or self._arriving:
            before = time.monotonic()
            self._wait(_TICK_S)
            now = time.monotonic()
            stalled = max(0.0, now - before - _TICK_S - _STALL_S)
            for client in self._clients:
                client.gone = client.gone or client.silent(now, stalled)
            self._dismiss()
            if not self._clients:
                continue
            try:
                self._work()
            except Exception as error:
                self._errors += 1
                self._last_error = "%s: %s" % (type(error).__name__, error)
            if now >= health_due:
                health_due = now + _HEALTH_S
                self._tell(wire.HEALTH, self._health())
            for client in self._clients:
                client.flush()

    def _work(self):
        torch = sys.modules.get("torch")
        # A program may still be importing torch, or have only its name: then there is nothing to hook yet.
        loaded = all(name in sys.modules for name in _NEEDED)
        if self._watch is None and loaded and not getattr(torch.__spec__, "_initializing", False):
            self._watch = Watch(torch, self._budget)
        if self._watch is not None:
            if not self._hooked:
                self._hooked = self._watch.attach()
            self._watch.tick()
        self._teller.tell(self._watch)

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
                if events & ~select.POLLOUT:
                    for message in by_fd[fd].receive():
                        self._obey(by_fd[fd], message)
                if events & select.POLLOUT:
                    by_fd[fd].flush()
        self._greet()

    def _obey(self, client, message):
        """Do what a monitor asks. Unknown types are ignored: it may be newer than we are."""
        kind = message.get("type")
        if kind == wire.DETACH:
            client.gone = True
        elif kind == wire.ARM:
            every = message.get("every")
            self._budget.fix(every if isinstance(every, int) and every >= 1 else None)
        elif kind == wire.BUDGET:
            share = message.get("share")
            if isinstance(share, (int, float)) and 0 < share <= 1:
                self._budget.share = float(share)

    def _dismiss(self):
        """Say goodbye to clients that want to go or have gone; with the last one, everything is taken out first."""
        for client in [client for client in self._clients if client.gone]:
            last = len(self._clients) == 1 and not self._arriving
            if last:
                self._take_out()
            health = self._health()
            client.send(wire.HEALTH, wire.VERSION, health)
            client.send(wire.BYE, wire.VERSION, {"left_behind": health["left_behind"]})
            self._drops += client.dropped
            self._clients.remove(client)
            if last:
                self.last_words = client.sock, client.unsent()
            else:
                client.flush()
                client.close()

    def _take_out(self):
        """Everything inert at once, and out as soon as it is safe."""
        if self._watch is None:
            return
        self._watch.silence()
        deadline = time.monotonic() + _DETACH_S
        clean = False
        while time.monotonic() < deadline:
            again, clean = clean, self._watch.detach()
            if clean and again:
                break  # twice: the training thread may have been arming while the first pass went by
            time.sleep(0.003)

    def leave(self):
        """Close and forget everything that is ours. The connector unlinks the socket."""
        if self._watch is not None and self._watch.on:
            self._take_out()
        for client in self._clients:
            client.close()
        for sock, _ in self._arriving:
            sock.close()
        self._clients, self._arriving, self._watch = [], [], None

    def _health(self):
        drops = self._drops + sum(client.dropped for client in self._clients)
        return self._teller.health(self._watch, drops, self._errors, self._last_error, self._hooked)
