"""The probe's socket in one rank. Source: torchtop/probe/wire.py. Cost: one read for each message, a ping each 0.5 s."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import anyio
import msgspec

from torchtop.attach.rendezvous import other_version
from torchtop.collectors.base import Meter
from torchtop.errors import ProtocolError
from torchtop.probe import wire
from torchtop.record import ProbeMessage
from torchtop.wire_message import check, decode


class ProbeCollector:
    """Messages of the probe in `rank_pid`, until it says goodbye or its process ends.

    lost: why the probe is gone although nobody asked it to go; None while it is there; may_come_back: whether it could
    be there again for the asking, which one that failed or speaks another language could not.
    """

    name: ClassVar[str] = "probe"

    def __init__(self, rank_pid: int, sock: socket.socket) -> None:
        self.rank_pid = rank_pid
        self.meter = Meter()
        self.ended = False
        self.lost: str | None = None
        self.may_come_back = False
        self._asked_to_go = False
        self._pinged: float | None = None
        self._stood_still_s = 0.0
        self._part_due: tuple[int, int] | None = None
        self._socket = sock
        self._buffer = bytearray()

    async def open(self) -> None:
        """Take over the connected socket."""
        self._socket.setblocking(False)

    async def samples(self) -> AsyncIterator[ProbeMessage]:
        """Yield messages as they arrive; end when the probe does.

        Raises `ProtocolError` on another version and on anything that is no message: nothing more is read then.
        """
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
                self._end("the probe closed the connection without a goodbye")
                self.may_come_back = self.lost is not None
                return
            try:
                messages = self._messages(data)
            except ProtocolError as problem:
                self._end(str(problem))
                raise
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
        found = [self._message(bytes(line), now) for line in lines if line]
        return [message for message in found if message.type != wire.LAYERS or self._in_turn(message.body)]

    def _message(self, line: bytes, now: float) -> ProbeMessage:
        try:
            if len(line) > wire.LINE_LIMIT:
                raise ValueError(f"{len(line)} bytes in one line")
            body = decode(line)
            if body["v"] == wire.VERSION:
                check(body)
        except ValueError as error:
            raise ProtocolError(
                f"process {self.rank_pid} sent something that is no torchtop message ({error}): detached"
            ) from None
        if body["v"] != wire.VERSION:
            raise ProtocolError(other_version(self.rank_pid, body["v"]))
        if body["type"] == wire.BYE:
            failed, reason = body.get("error"), body.get("reason")
            self._end(f"there is no probe: {failed}" if failed else f"the probe let go of this torchtop: {reason}")
            self.may_come_back = not failed and self.lost is not None
        return ProbeMessage(t=now, rank_pid=self.rank_pid, type=body["type"], body=body)

    def _in_turn(self, body: dict[str, Any]) -> bool:
        """Whether marks follow those that came last. A reader too slow misses messages: half a step is none."""
        if "times" not in body:
            return True
        step, part, parts = body["step"], body["part"], body["parts"]
        due = part == 0 if self._part_due is None or self._part_due[0] != step else part == self._part_due[1]
        if due:
            self._part_due = (step, part + 1) if part + 1 < parts else None
        return bool(due)

    def _end(self, why: str) -> None:
        self.ended = True
        self._note_pause()
        if self._stood_still_s > wire.SILENCE_S:
            # Its own words may have found no room among all that nobody read meanwhile.
            why = f"this torchtop stood still for {self._stood_still_s:.0f} s, and the probe waits {wire.SILENCE_S:g} s"
        if not self._asked_to_go:
            self.lost = why

    def _note_pause(self) -> None:
        now = time.monotonic()
        if self._pinged is not None:
            self._stood_still_s = max(self._stood_still_s, now - self._pinged)
        self._pinged = now

    async def ping(self) -> None:
        """Tell the probe twice a second that we are alive, until cancelled or gone."""
        while not self.ended:
            self._note_pause()
            self.send(wire.PING)
            await anyio.sleep(wire.PING_S)

    def send(self, kind: str, **body: Any) -> None:
        """Send one short request; a probe that is gone or does not read is found out by reading, not here."""
        self._asked_to_go = self._asked_to_go or kind == wire.DETACH
        try:
            self._socket.send(msgspec.json.encode({"type": kind, **body}) + b"\n")
        except OSError as error:
            self.meter.reason = str(error)

    async def close(self) -> None:
        """Close the socket. The probe detaches by itself when its last client is gone."""
        self.ended = True
        self._socket.close()
