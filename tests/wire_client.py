"""A monitor's end of the socket, by hand: for tests of what the probe says to whom."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

from torchtop.attach.connect import attach
from torchtop.probe import wire

PATIENCE_S = 30.0

Message = dict[str, Any]


class WireClient:
    """Attached to `pid`: pings and listens, and else says only what it is told to say."""

    def __init__(self, pid: int) -> None:
        self.connection = attach(pid, timeout_s=PATIENCE_S)
        self._socket = self.connection.channel.socket
        self._socket.settimeout(wire.PING_S)
        self._messages: queue.Queue[Message | None] = queue.Queue()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._live)
        self._thread.start()

    def __enter__(self) -> WireClient:  # noqa: PYI034  # Self came with Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def send(self, kind: str, **body: Any) -> None:
        """Ask for something."""
        self._socket.sendall(json.dumps({"type": kind, **body}).encode() + b"\n")

    def until(self, wanted: Callable[[Message], Any], what: str) -> Message:
        """The next message that is `wanted`; those before it are gone."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with suppress(queue.Empty):
                message = self._messages.get(timeout=wire.PING_S)
                assert message is not None, f"the probe closed the connection before {what}"
                if wanted(message):
                    return message
        raise AssertionError(f"waited {PATIENCE_S:g} s in vain for {what}")

    def ask_for_lease(self, want: bool = True) -> Message:
        """What is said to a request for the lease."""
        self.send(wire.LEASE, want=want)
        return self.until(lambda m: m["type"] == wire.LEASE, "an answer about the lease")

    def until_every(self, every: Callable[[int], bool], what: str) -> int:
        """N, once one step in N is armed and `every(N)` holds."""
        found = self.until(lambda m: m["type"] == wire.HEALTH and every(m["every"]), what)
        return int(found["every"])

    def leave(self) -> Message:
        """Detach and return the goodbye."""
        self.send(wire.DETACH)
        bye = self.until(lambda m: m["type"] == wire.BYE, "a goodbye")
        self.close()
        return bye

    def close(self) -> None:
        """Close the socket; closing twice is fine."""
        self._left.set()
        self._thread.join()
        self._socket.close()

    def _live(self) -> None:
        rest, ping_due = b"", 0.0
        with suppress(OSError):  # it has let go of us
            while not self._left.is_set():
                if time.monotonic() >= ping_due:
                    ping_due = time.monotonic() + wire.PING_S
                    with suppress(BrokenPipeError):  # its goodbye may be on its way
                        self.send(wire.PING)
                try:
                    data = self._socket.recv(1 << 16)
                except TimeoutError:
                    continue
                if not data:
                    break
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._messages.put(json.loads(line))
        self._messages.put(None)
