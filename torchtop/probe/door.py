"""How monitors come in while an agent runs: by its socket, or handed over by a second attach that found an agent."""

from __future__ import annotations

import os
import time
from _thread import allocate_lock

from .client import peer

_HANDSHAKE_S = 2.0
_ARRIVING = 16  # connections that have not said their half of the secret yet; of more, the first goes


class Door:
    """Connections on their way in. `hand_over` is called from other threads of ours, the rest by the agent's only."""

    def __init__(self, listener, tokens):
        listener.setblocking(False)
        self.listener = listener
        self._ours, self._theirs = tokens
        self._arriving = []
        self._handed = []
        self._open = True
        self._lock = allocate_lock()  # no thread of the program's ever waits for it

    def hand_over(self, sock):
        """Take in a client whose handshake is done, by a descriptor of our own; False when the agent is leaving."""
        with self._lock:
            if self._open:
                self._handed.append(sock.dup())
            return self._open

    def accept(self):
        """Begin the handshake of a new connection; it goes on in `ready`, never waiting."""
        try:
            sock = self.listener.accept()[0]
        except OSError:
            return
        if peer(sock)[1] not in (0, os.geteuid()):
            sock.close()
            return
        sock.setblocking(False)
        self._arriving.append((sock, time.monotonic() + _HANDSHAKE_S))
        if len(self._arriving) > _ARRIVING:
            self._arriving.pop(0)[0].close()

    def waiting(self):
        """Sockets on which the other side has yet to speak."""
        return [sock for sock, _ in self._arriving]

    def ready(self):
        """(socket, whether it still has to be answered) of those who may come in."""
        with self._lock:
            found, self._handed = [(sock, False) for sock in self._handed], []
        waiting = []
        for sock, deadline in self._arriving:
            try:
                said = sock.recv(len(self._ours))
            except BlockingIOError:
                if time.monotonic() < deadline:
                    waiting.append((sock, deadline))
                else:
                    sock.close()
                continue
            except OSError:
                said = b""
            if said == self._ours:
                found.append((sock, True))
            else:
                sock.close()
        self._arriving = waiting
        return found

    def answer(self, sock, python, detail, state):
        """End a handshake; False when the other side has gone."""
        try:
            sock.send(self._theirs + (" %s %s %s\n" % (python, detail, state)).encode())
        except OSError:
            return False
        return True

    def shut(self):
        """Let nobody in any more; False, and still open, when somebody was handed over just now."""
        with self._lock:
            self._open = bool(self._handed)
            return not self._open

    def close(self):
        """Shut for good: who has not come in yet finds the connection closed, and tries again."""
        with self._lock:
            self._open = False
            left, self._handed = self._handed, []
        for sock in left + self.waiting():
            sock.close()
        self._arriving = []
