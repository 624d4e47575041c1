"""Where a target's socket is, seen from the target and from here, and whose it must be.

The socket belongs to the target's user, in a folder of mode 0700, reached through /proc/PID/root so that another
mount namespace makes no difference. Its name carries the secret: who can list the folder (that user and root) may
connect.
"""

from __future__ import annotations

import os
import pwd
import re
import socket
import stat
import struct
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from torchtop.attach import proc
from torchtop.errors import AttachError, ProtocolError
from torchtop.probe import wire

_LONGEST_PATH = 107  # bytes of sun_path less the NUL (unix(7))
_FOLDERS = ("/tmp", "/dev/shm")
_HANDSHAKE_S = 5.0
_ANSWER = re.compile(r"(\S+) (\d+\.\d+\.\d+) (?:([0-9a-f]+) code|(\d+) live|(\d+:\d+(?:,\d+:\d+)*) full)\n")


class Meeting(NamedTuple):
    """The names of one socket: the folders to try, as the target sees them, and the file."""

    pid: int
    uid: int
    folders: tuple[str, ...]
    file: str

    @property
    def tokens(self) -> tuple[str, str]:
        """What the client sends, what the target answers."""
        secret = self.file.split("-")[1].split(".")[0]
        return secret[: wire.TOKEN], secret[wire.TOKEN :]


class Channel(NamedTuple):
    """A connected socket, handshake done."""

    socket: socket.socket
    python: str
    magic: str
    live: bool


def folders(pid: int, uid: int) -> tuple[str, ...]:
    """Folders to try, in order: TMPDIR of the target as it was started, then where everybody may write."""
    try:
        own = proc.environment(pid).get("TMPDIR", "")
    except OSError:
        own = ""
    leaf = wire.DIRECTORY.format(uid=uid)
    candidates = [own] if own.startswith("/") else []
    candidates += [*_FOLDERS, f"/run/user/{uid}"]
    room = _LONGEST_PATH - len(f"/{leaf}/") - len(wire.SOCKET.format(pid=1 << 22, secret="0" * 2 * wire.TOKEN))
    return tuple(f"{folder.rstrip('/')}/{leaf}" for folder in dict.fromkeys(candidates) if len(folder) <= room)


def new_meeting(pid: int) -> Meeting:
    """Draw the secret of a new socket for `pid`."""
    status = proc.status(pid)
    file = wire.SOCKET.format(pid=status.pids[-1], secret=os.urandom(wire.TOKEN).hex())
    return Meeting(pid, status.uid, folders(pid, status.uid), file)


def existing_meetings(pid: int) -> list[Meeting]:
    """Sockets that already stand for `pid`, live or stale."""
    status = proc.status(pid)
    prefix = wire.SOCKET.format(pid=status.pids[-1], secret="").removesuffix(".sock")
    found = []
    for folder in folders(pid, status.uid):
        try:
            names = [entry.name for entry in os.scandir(proc.inside(pid, folder)) if entry.name.startswith(prefix)]
        except OSError:
            continue
        found += [Meeting(pid, status.uid, (folder,), name) for name in names if len(name) == len(prefix) + 37]
    return found


def connect(meeting: Meeting) -> socket.socket | None:
    """Connect to the socket if it stands in one of the folders; None while it does not.

    A folder that another user planted, or that others may enter, is not looked into.
    """
    for folder in meeting.folders:
        path = proc.inside(meeting.pid, folder)
        try:
            facts = path.lstat()
        except OSError:
            continue
        if facts.st_uid != meeting.uid or not stat.S_ISDIR(facts.st_mode) or facts.st_mode & 0o077:
            continue
        sock = _connect_in(path, meeting.file)
        if sock is None:
            continue
        if _peer_uid(sock) != meeting.uid:
            sock.close()
            raise AttachError(f"the socket {path / meeting.file} is served by another user than the target's: not used")
        return sock
    return None


def sweep(paths: Iterable[str]) -> None:
    """Remove sockets and scripts that ended processes left in `paths`, and a folder that is then empty.

    Only for folders as processes of our own PID and mount namespace see them: the names carry pids.
    """
    for folder in paths:
        try:
            for entry in os.scandir(folder):
                pid = entry.name.partition("-")[0]
                if entry.name.endswith((".sock", ".py")) and pid.isdigit() and not (proc.PROC / pid).exists():
                    os.unlink(entry.path)
            os.rmdir(folder)
        except OSError:
            continue  # it is not there, it is not ours to clean, or somebody else's socket stands in it


def shared_folders(pid: int) -> tuple[str, ...]:
    """The folders of `pid` if it sees the same processes and files as we do, else none: for `sweep`."""
    status = proc.status(pid)
    same = os.stat(proc.inside(pid, "/")) == os.stat("/") and len(status.pids) == 1
    return folders(pid, status.uid) if same else ()


def _connect_in(folder: Path, file: str) -> socket.socket | None:
    """Connect by way of an open folder: the whole path may be longer than a socket address."""
    try:
        handle = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.settimeout(_HANDSHAKE_S)
        _connect_patiently(sock, f"/proc/self/fd/{handle}/{file}")
    except OSError:
        sock.close()
        return None
    finally:
        os.close(handle)
    return sock


def _connect_patiently(sock: socket.socket, path: str) -> None:
    """Connect, waiting for room among the connections that wait to be accepted: connect(2) does not (EAGAIN)."""
    deadline = time.monotonic() + _HANDSHAKE_S
    while True:
        try:
            return sock.connect(path)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _peer_uid(sock: socket.socket) -> int:
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


def shake_hands(sock: socket.socket, meeting: Meeting) -> Channel | None:
    """Prove our half of the secret, check the other half; None when nobody answers (a probe that is just leaving).

    Raises `AttachError` when as many watch already as are served, `ProtocolError` on another version and on an answer
    that is none.
    """
    ours, theirs = meeting.tokens
    try:
        sock.sendall(f"{ours}\n".encode())
        answer = _ANSWER.fullmatch(read_line(sock))
    except OSError:
        sock.close()
        return None
    if answer is not None and answer[1] == theirs:
        _, python, magic, version, watchers = answer.groups()
        if magic is not None or version == str(wire.VERSION):
            return Channel(sock, python, magic or "", magic is None)
        sock.close()
        if watchers is not None:
            raise AttachError(
                f"process {meeting.pid} is watched by as many torchtop as it serves at once: {_named(watchers)}; "
                "end one of them first"
            )
        raise ProtocolError(other_version(meeting.pid, int(version)))
    sock.close()
    raise ProtocolError(
        f"what answers on the socket of process {meeting.pid} is no torchtop probe: end whatever serves "
        f"{meeting.folders[0]}/{meeting.file}"
    )


def other_version(pid: int, version: int) -> str:
    """What to say to a probe that another torchtop has put into `pid`."""
    return (
        f"the probe in process {pid} speaks wire version {version}, this torchtop speaks {wire.VERSION}: use the "
        "torchtop that put it there, or end that one first (the probe goes with its last watcher)"
    )


def _named(watchers: str) -> str:
    """ "process 12 (root), process 34 (alice)" of "12:0,34:1000"."""
    named = []
    for pid, uid in (watcher.split(":") for watcher in watchers.split(",")):
        try:
            user = pwd.getpwuid(int(uid)).pw_name
        except (KeyError, OverflowError):
            user = f"uid {uid}"
        # The kernel gives 0 for a process that is not in the target's PID namespace.
        named.append(f"process {pid} ({user})" if pid != "0" else f"a process outside its PID namespace ({user})")
    return ", ".join(named)


def read_line(sock: socket.socket, limit: int = 200) -> str:
    """One short line, byte by byte: nothing behind it may be swallowed. OSError when the peer closes."""
    line = bytearray()
    deadline = time.monotonic() + _HANDSHAKE_S
    while not line.endswith(b"\n") and len(line) < limit:
        byte = sock.recv(1)
        if not byte or time.monotonic() > deadline:
            raise ConnectionError("it closed the connection" if not byte else "it was too slow")
        line += byte
    return line.decode("ascii", "replace")
