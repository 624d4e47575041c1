"""One connected monitor, seen from the target: bounded queues out, whole lines in, never blocking."""

from __future__ import annotations

import json
import socket
import time
from collections import deque

from .wire import LINE_LIMIT, SILENCE_S

_QUEUE = 256  # messages waiting for a slow reader; the oldest go first


class Client:
    """A socket with an outgoing queue that drops its oldest message when full, and counts."""

    def __init__(self, sock):
        sock.setblocking(False)
        self.sock = sock
        self.gone = False
        self.dropped = 0
        self._heard = time.monotonic()
        self._seq = 0
        self._queue = deque()
        self._sending = b""
        self._received = b""

    def send(self, kind, version, body):
        """Queue one message; what cannot be written as JSON within the limit is dropped and counted."""
        self._seq += 1
        line = (
            json.dumps({"v": version, "type": kind, "seq": self._seq, **body}, allow_nan=False, default=str).encode()
            + b"\n"
        )
        if len(line) > LINE_LIMIT:
            self.dropped += 1
            return
        if len(self._queue) >= _QUEUE:
            self._queue.popleft()
            self.dropped += 1
        self._queue.append(line)

    def wants_to_write(self):
        """Whether anything waits to be sent."""
        return bool(self._sending or self._queue)

    def flush(self):
        """Send what the socket takes now."""
        try:
            while self._sending or self._queue:
                if not self._sending:
                    self._sending = self._queue.popleft()
                sent = self.sock.send(self._sending)
                self._sending = self._sending[sent:]
        except BlockingIOError:
            pass
        except OSError:
            self.gone = True

    def unsent(self):
        """All that waits, in one piece, for whoever sends it instead of us."""
        return self._sending + b"".join(self._queue)

    def receive(self):
        """Whole messages that have arrived. Garbage and over-long lines end the connection, nothing else."""
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.gone = True
            return []
        self._heard = time.monotonic()
        lines = (self._received + data).split(b"\n")
        self._received = lines.pop()
        try:
            messages = [json.loads(line) for line in lines if line]
        except ValueError:
            messages = [None]
        if len(self._received) > LINE_LIMIT or not all(isinstance(message, dict) for message in messages):
            self.gone = True
            return []
        return messages

    def silent(self, now, stalled_s):
        """Whether the monitor has not been heard for too long. stalled_s: time in which we ourselves stood still."""
        self._heard += stalled_s
        return now - self._heard > SILENCE_S

    def close(self):
        """End the connection; closing twice is fine. shutdown, because a forked DataLoader worker holds the socket too."""
        self.gone = True
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the peer was quicker
        self.sock.close()
