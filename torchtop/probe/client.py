"""One connected monitor, seen from the target: bounded queues out, whole lines in, never blocking."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections import deque

from .wire import HEALTH, LAYERS, LINE_LIMIT, REQUEST_LIMIT, SILENCE_S, STEP, VERSION

_QUEUE = 256  # messages waiting for a slow reader; the oldest go first
_QUEUE_BYTES = 4 << 20  # that they may hold: marks of one armed step are up to half a megabyte a message
_READ = 4096  # bytes taken at a time
_FLOOD = 1 << 16  # bytes in a second; a monitor says a hundred
_PASSING = (STEP, LAYERS, HEALTH)  # what is lost of these is lost; all else is told again


class Client:
    """A socket with an outgoing queue that drops its oldest message when full, and counts.

    pid, uid: whose it is, as this process sees them (pid 0: of another PID namespace). every, share: its wishes.
    """

    def __init__(self, sock):
        sock.setblocking(False)
        self.sock = sock
        self.pid, self.uid = peer(sock)
        self.every = None
        self.share = None
        self.gone = False
        self.why = None
        self.dropped = 0
        self.missed = False
        self._heard = time.monotonic()
        self._seq = 0
        self._queue = deque()
        self._queued = 0
        self._sending = b""
        self._received = b""
        self._second = 0.0
        self._said = 0

    def send(self, kind, body):
        """Queue one message; what cannot be written as JSON within the limit is dropped and counted."""
        self._seq += 1
        message = {"v": VERSION, "type": kind, "seq": self._seq, **body}
        line = json.dumps(message, allow_nan=False, default=str).encode() + b"\n"
        if len(line) > LINE_LIMIT:
            self.dropped += 1
            return
        while self._queue and (len(self._queue) >= _QUEUE or self._queued + len(line) > _QUEUE_BYTES):
            oldest, lost = self._queue.popleft()
            self._queued -= len(lost)
            self.dropped += 1
            self.missed = self.missed or oldest not in _PASSING
        self._queue.append((kind, line))
        self._queued += len(line)

    def wants_to_write(self):
        """Whether anything waits to be sent."""
        return bool(self._sending or self._queue)

    def flush(self):
        """Send what the socket takes now."""
        try:
            while self.wants_to_write():
                if not self._sending:
                    self._sending = self._queue.popleft()[1]
                    self._queued -= len(self._sending)
                sent = self.sock.send(self._sending)
                self._sending = self._sending[sent:]
        except BlockingIOError:
            pass
        except OSError:
            self.end("it closed the connection")

    def unsent(self):
        """All that waits, in one piece, for whoever sends it instead of us."""
        return self._sending + b"".join(line for _, line in self._queue)

    def receive(self):
        """Whole messages that have arrived. Garbage, over-long lines and floods end the connection, nothing else."""
        try:
            data = self.sock.recv(_READ)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.end("it closed the connection")
            return []
        self._heard = time.monotonic()
        if self._heard - self._second > 1.0:
            self._second, self._said = self._heard, 0
        self._said += len(data)
        lines = (self._received + data).split(b"\n")
        self._received = lines.pop()
        if self._said > _FLOOD or len(self._received) > REQUEST_LIMIT:
            self.end("it sent more than a monitor says")
            return []
        try:
            messages = [json.loads(line) for line in lines if line]
        except (ValueError, RecursionError):
            messages = [None]
        if not all(isinstance(message, dict) for message in messages):
            self.end("it sent something that is no message")
            return []
        return messages

    def silent(self, now, stalled_s):
        """Whether the monitor has not been heard for too long. stalled_s: time in which we ourselves stood still."""
        self._heard += stalled_s
        return now - self._heard > SILENCE_S

    def end(self, why=None):
        """To be dismissed. why: what it is told, None when it asked for it."""
        if not self.gone:
            self.gone, self.why = True, why

    def close(self):
        """End the connection; closing twice is fine. shutdown, because a forked DataLoader worker holds the socket too."""
        self.gone = True
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the peer was quicker
        self.sock.close()


def peer(sock):
    """(pid, uid) of the process that connected, as this process sees them."""
    return struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[:2]
