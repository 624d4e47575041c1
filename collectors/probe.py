"""The probe's socket in one rank. Source: torchtop/probe/wire.py. Cost: one read for each message, a ping each 0.5 s."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import anyio
import msgspec

from torchtop.collectors.base import Meter
from torchtop.errors import ProtocolError
from torchtop.probe import wire
from torchtop.record import ProbeMessage

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class ProbeCollector:
    """Messages of the probe in `rank_pid`, until it says goodbye or its process ends."""

    name: ClassVar[str] = "probe"

    def __init__(self, rank_pid: int, sock: socket.socket) -> None:
        self.rank_pid = rank_pid
        self.meter = Meter()
        self.ended = False
        self._socket = sock
        self._buffer = bytearray()

    async def open(self) -> None:
        """Take over the connected socket."""
        self._socket.setblocking(False)

    async def samples(self) -> AsyncIterator[ProbeMessage]:
        """Yield messages as they arrive; end when the probe does. Raises `ProtocolError` on another version."""
        while not self.ended:
            # A forked DataLoader worker may hold the socket open after the target died: silence is an end too.
            with anyio.move_on_after(wire.SILENCE_S * 2) as waiting:
                await anyio.wait_readable(self._socket)
            if waiting.cancelled_caught:
                self.meter.reason = f"the probe has been silent for {wire.SILENCE_S * 2:g} s"
                self.meter.failures += 1
                continue
            began = time.monotonic()
            try:
                data = self._socket.recv(1 << 18)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                self.ended = True
                return
            messages = self._messages(data)
            self.meter.reads += 1
            self.meter.total_s += time.monotonic() - began
            self.meter.reason = None
            for message in messages:
                yield message

    def _messages(self, data: bytes) -> list[ProbeMessage]:
        self._buffer += data
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = rest
        if len(rest) > wire.LINE_LIMIT:
            raise ProtocolError(f"process {self.rank_pid} sent a line longer than {wire.LINE_LIMIT} bytes: detached")
        now = time.monotonic()
        return [self._message(bytes(line), now) for line in lines if line]

    def _message(self, line: bytes, now: float) -> ProbeMessage:
        try:
            body = _decode(line)
            version, kind = body["v"], body["type"]
        except (msgspec.DecodeError, KeyError):
            raise ProtocolError(
                f"process {self.rank_pid} sent something that is no torchtop message: detached"
            ) from None
        if version != wire.VERSION:
            raise ProtocolError(
                f"the probe in process {self.rank_pid} speaks wire version {version}, this torchtop speaks "
                f"{wire.VERSION}: use the torchtop that started it"
            )
        if kind == wire.BYE:
            self.ended = True
        return ProbeMessage(t=now, rank_pid=self.rank_pid, type=str(kind), body=body)

    async def ping(self) -> None:
        """Tell the probe twice a second that we are alive, until cancelled or gone."""
        while not self.ended:
            self.send(wire.PING)
            await anyio.sleep(wire.PING_S)

    def send(self, kind: str, **body: Any) -> None:
        """Send one short request; a probe that is gone or does not read is found out by reading, not here."""
        try:
            self._socket.send(msgspec.json.encode({"type": kind, **body}) + b"\n")
        except OSError as error:
            self.meter.reason = str(error)

    async def close(self) -> None:
        """Close the socket. The probe detaches by itself when its last client is gone."""
        self.ended = True
        self._socket.close()
