"""One attach and detach, as the corruption tests and the torture repeat it."""

from __future__ import annotations

import json
import time
from collections.abc import Collection

from torchtop.attach import proc, remote_exec
from torchtop.attach.asleep import ASLEEP_S
from torchtop.attach.connect import WAYS, Connection, attach

GONE_S = 60.0


def messages_until_closed(connection: Connection) -> list[dict[str, object]]:
    """Everything the probe still says, until it closes the socket."""
    sock = connection.channel.socket
    sock.settimeout(GONE_S)
    data = b""
    while part := sock.recv(1 << 16):
        data += part
    return [json.loads(line) for line in data.splitlines()]


def cycle(pid: int, watch_s: float = 0.0, ways: Collection[str] = WAYS, asleep_s: float = ASLEEP_S) -> Connection:
    """Attach to `pid`, stay for `watch_s`, detach, and insist that the socket and our page are gone."""
    connection = attach(pid, timeout_s=30.0, ways=ways, asleep_s=asleep_s)
    try:
        if watch_s:
            time.sleep(watch_s)
        connection.channel.socket.sendall(b'{"type": "detach"}\n')
        told = messages_until_closed(connection)
    finally:
        connection.channel.socket.close()
    kinds = [message["type"] for message in told]
    assert kinds[0] == "hello" and kinds[-1] == "bye", kinds
    assert told[-1]["left_behind"] == [], told[-1]
    if connection.method == remote_exec.METHOD:
        assert connection.page is None
    else:
        assert connection.page is not None and not _mapped(pid, connection.page)
    return connection


def _mapped(pid: int, address: int) -> bool:
    """Whether the page of code of an injection is still there: memory of no file that can be executed."""
    code = [m for m in proc.mappings(pid) if m.start <= address + 4096 < m.end]
    return any("x" in m.permissions and not m.path for m in code)
