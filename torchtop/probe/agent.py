"""The thread inside the target that serves monitors, and takes everything out when the last one has gone.

It does little and in small pieces: whatever it computes, the training thread may be waiting for the GIL meanwhile.
"""

from __future__ import annotations

import select
import sys
import time

from . import wire
from .client import Client
from .door import Door
from .teller import Teller, python_version
from .watch.budget import DEFAULT_SHARE, Budget
from .watch.watch import Watch

_NEEDED = ("torch", "torch.nn.modules.module", "torch.optim.optimizer", "torch.utils.data.dataloader")
_TICK_S = 0.1
_HEALTH_S = 1.0
_RAREST = 10**9  # steps between two armed ones at most, whatever a monitor asks
_DETACH_S = 10.0  # s after which what cannot be taken out safely is left, and listed
_STALL_S = 1.0  # s beyond a tick after which we were suspended, not the monitor
_STOPPED = 0.05  # cores: less was used meanwhile, so that the whole process stood still, not only we


door = None  # of the agent that serves; boot.py hands clients in here that came by another socket


def serve(listener, first, tokens):
    """Run until the last client has gone; return (its socket, what to tell it once nothing of ours is left).

    `listener` and `first` are the connector's.
    """
    global door
    agent = Agent(Door(listener, tokens))
    try:
        agent.admit(first.dup())
        door = agent.door
        agent.run()
    finally:
        agent.leave()
    return agent.last_words


class Agent:
    """Clients, and the watch that is in place as long as there is one."""

    def __init__(self, door):
        self.door = door
        self._clients = []
        self._budget = Budget()
        self._lease = None
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
        client.send(wire.HELLO, self._teller.hello())
        self._tell_known(client)

    def _let_in(self):
        """Serve those who are ready to come in, or tell them who is here already."""
        for sock, unanswered in self.door.ready():
            full = len(self._clients) >= wire.CLIENTS
            watchers = ",".join("%d:%d" % (client.pid, client.uid) for client in self._clients)
            detail, state = (watchers, "full") if full else (wire.VERSION, "live")
            if unanswered and not self.door.answer(sock, python_version(), detail, state):
                sock.close()
            elif not full:
                self.admit(sock)
            else:
                rejected = Client(sock)
                if not unanswered:
                    error = "as many watch it as are served at once (pid:uid %s)" % watchers
                    rejected.send(wire.BYE, {"error": error, "left_behind": []})
                    rejected.flush()
                rejected.close()

    def _tell(self, kind, body):
        for client in self._clients:
            client.send(kind, body)

    def _tell_known(self, client):
        for kind, body in self._teller.known():
            client.send(kind, body)

    # Life

    def run(self):
        """Serve until no client is left."""
        health_due = time.monotonic()
        while self._clients or not self.door.shut():
            before, cpu_s = time.monotonic(), time.process_time()
            self._wait(_TICK_S)
            now = time.monotonic()
            stalled = max(0.0, now - before - _TICK_S - _STALL_S)
            if stalled and self._watch is not None and time.process_time() - cpu_s < _STOPPED * stalled:
                self._watch.stops.add(before, now)
            for client in self._clients:
                if client.silent(now, stalled):
                    client.end("it was silent for %g s" % wire.SILENCE_S)
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
                if client.missed and not client.wants_to_write():
                    client.missed = False
                    self._tell_known(client)

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
        poll.register(self.door.listener, select.POLLIN)
        by_fd = {}
        for client in self._clients:
            by_fd[client.sock.fileno()] = client
            poll.register(client.sock, select.POLLIN | (select.POLLOUT if client.wants_to_write() else 0))
        for sock in self.door.waiting():
            poll.register(sock, select.POLLIN)
        for fd, events in poll.poll(seconds * 1000):
            if fd == self.door.listener.fileno():
                self.door.accept()
            elif fd in by_fd:
                if events & ~select.POLLOUT:
                    for message in by_fd[fd].receive():
                        self._obey(by_fd[fd], message)
                if events & select.POLLOUT:
                    by_fd[fd].flush()
        self._let_in()

    def _obey(self, client, message):
        """Do what a monitor asks. Unknown types are ignored: it may be newer than we are."""
        kind = message.get("type")
        if kind == wire.DETACH:
            client.end()
        elif kind == wire.ARM:
            every = message.get("every")
            client.every = every if type(every) is int and 1 <= every <= _RAREST else None
            self._settle()
        elif kind == wire.BUDGET:
            share = message.get("share")
            client.share = float(share) if type(share) in (int, float) and 0 < share <= 1 else None
            self._settle()
        elif kind == wire.LEASE:
            self._lend(client, message.get("want"))
        elif kind == wire.LOOK and message.get("what") == "weights":
            self._teller.weights.want()

    def _settle(self):
        """Of all wishes the most careful holds (wire.py)."""
        self._budget.share = min([c.share for c in self._clients if c.share is not None], default=DEFAULT_SHARE)
        every = max([c.every for c in self._clients if c.every is not None], default=None)
        if every != self._budget.fixed:
            self._budget.fix(every)

    def _lend(self, client, want):
        """The right to change the job: to one client at a time, who keeps it until it gives it back or goes."""
        if want is True and self._lease is None:
            self._lease = client
        elif want is False and self._lease is client:
            self._lease = None
        holder = self._lease
        who = {"pid": holder.pid, "uid": holder.uid} if holder is not None else {"pid": None, "uid": None}
        client.send(wire.LEASE, {"held": holder is client, **who})

    def _dismiss(self):
        """Say goodbye to clients that want to go or have gone; with the last one, everything is taken out first."""
        for client in [client for client in self._clients if client.gone]:
            last = len(self._clients) == 1 and self.door.shut()
            if last:
                self._take_out()
            health = self._health()
            client.send(wire.HEALTH, health)
            client.send(wire.BYE, {"left_behind": health["left_behind"], "reason": client.why})
            self._drops += client.dropped
            self._clients.remove(client)
            if self._lease is client:
                self._lease = None
            self._settle()
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
        self.door.close()
        self._clients, self._lease, self._watch = [], None, None

    def _health(self):
        drops = self._drops + sum(client.dropped for client in self._clients)
        return self._teller.health(self._watch, drops, self._errors, self._last_error, self._hooked)
