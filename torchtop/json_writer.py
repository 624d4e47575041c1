"""Snapshots as JSON, whole or line by line, on stdout or in a file."""

from __future__ import annotations

import os
import select
import stat
import sys

import anyio
import msgspec

from torchtop.errors import UsageError
from torchtop.snapshot import Snapshot


class JsonWriter:
    """Writes snapshots. `json`: only the last one, at the end, all or nothing; `jsonl`: one a line, at once.

    By descriptor: what Python has buffered for a full disk or a closed pipe it would try to write again at exit.
    """

    def __init__(self, path: str | None, lines: bool) -> None:
        self._path = path
        self._lines = lines
        self._last: Snapshot | None = None
        self._encoder = msgspec.json.Encoder()
        self._written = 0  # bytes, of whole lines
        self._over = False
        self._unfinished: str | None = None
        if path is None:
            if sys.stdout is None:
                raise UsageError("standard output is closed: give a file with -o")
            self._handle = sys.stdout.fileno()
        else:
            self._handle, self._unfinished = _open_for_writing(path, lines)
        kind = os.fstat(self._handle).st_mode
        self._may_block = stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind) or os.isatty(self._handle)

    async def take(self, snapshot: Snapshot) -> bool:
        """The session's sink; False once nobody reads any more.

        A reader that pauses (`| less`) must not stop us from saying to the probe that we are there.
        """
        if not self._lines:
            self._last = snapshot
            return True
        if self._over:
            return False
        self._over = True  # until the line is whole: after a piece of one, nothing can follow
        data = self._encoder.encode(snapshot) + b"\n"
        for at in range(0, len(data), select.PIPE_BUF):
            if self._may_block:
                await anyio.wait_writable(self._handle)
            if not self._write(data[at : at + select.PIPE_BUF]):
                return False
        self._written += len(data)
        self._over = False
        return True

    def finish(self) -> None:
        """Write what is due at the end and close."""
        if self._last is not None:
            self._write(msgspec.json.format(self._encoder.encode(self._last), indent=2) + b"\n")
        if self._path is not None:
            os.close(self._handle)
        if self._path is not None and self._unfinished is not None:
            os.replace(self._unfinished, os.path.realpath(self._path))
            self._unfinished = None

    def abandon(self) -> None:
        """Leave no half-written file behind."""
        if self._unfinished is not None:
            os.unlink(self._unfinished)
            self._unfinished = None

    def _write(self, data: bytes) -> bool:
        """Write all of `data`; False when the reader has gone (`| head`): that is its way of saying enough."""
        try:
            while data:
                data = data[os.write(self._handle, data) :]
        except BrokenPipeError:
            return False
        except OSError as error:
            if self._lines and stat.S_ISREG(os.fstat(self._handle).st_mode) and self._path is not None:
                os.ftruncate(self._handle, self._written)
            where = self._path or "standard output"
            raise UsageError(f"cannot write to {where}: {error.strerror}; the job runs on, detached") from None
        return True


def _open_for_writing(path: str, lines: bool) -> tuple[int, str | None]:
    """(descriptor, name of a file beside `path` that will take its place) of what the output goes to, before anything
    is attached. Lines, and all that goes to something that is no regular file (/dev/null, a pipe), go there directly.
    """
    try:
        direct = lines or (os.path.exists(path) and not os.path.isfile(path))
        name = path if direct else f"{os.path.realpath(path)}.torchtop-{os.getpid()}"
        return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666), None if direct else name
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; give another file with -o") from None
