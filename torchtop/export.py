"""The headless sink: snapshots as JSON on stdout or in a file, whole or line by line."""

from __future__ import annotations

import os
import sys
from typing import IO

import msgspec

from torchtop.attach.job import find
from torchtop.errors import UsageError
from torchtop.session import Options, nothing_measured, watch
from torchtop.snapshot import Snapshot

_HORIZON_S = 60.0  # s that one line of an endless jsonl looks back


class JsonWriter:
    """Writes snapshots. `json`: only the last one, at the end, all or nothing; `jsonl`: one a line, flushed."""

    def __init__(self, path: str | None, lines: bool) -> None:
        self._path = path
        self._lines = lines
        self._last: Snapshot | None = None
        self._encoder = msgspec.json.Encoder()
        self._file: IO[bytes] = sys.stdout.buffer
        if path is not None:
            self._file = _open_for_writing(path, lines)

    async def take(self, snapshot: Snapshot) -> bool:
        """The session's sink; False once nobody reads any more."""
        if not self._lines:
            self._last = snapshot
            return True
        return self._write(self._encoder.encode(snapshot) + b"\n")

    def finish(self) -> None:
        """Write what is due at the end and close."""
        if self._last is not None:
            self._write(msgspec.json.format(self._encoder.encode(self._last), indent=2) + b"\n")
        if self._path is not None:
            name = self._file.name
            self._file.close()
            if name != self._path:
                os.replace(name, os.path.realpath(self._path))

    def abandon(self) -> None:
        """Leave no half-written file behind."""
        if self._path is not None:
            self._file.close()
            if self._file.name != self._path:
                os.unlink(self._file.name)

    def _write(self, data: bytes) -> bool:
        try:
            self._file.write(data)
            self._file.flush()
        except BrokenPipeError:
            # The reader has gone (`| head`): that is its way of saying enough. Python must not flush again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return False
        except OSError as error:
            where = self._path or "standard output"
            raise UsageError(f"cannot write to {where}: {error.strerror}; the job runs on, detached") from None
        return True


def _open_for_writing(path: str, lines: bool) -> IO[bytes]:
    """Open what the output goes to, before anything is attached: a file beside `path` that will take its place, or
    `path` itself where lines are appended or it is no regular file (/dev/null, a pipe)."""
    try:
        direct = lines or (os.path.exists(path) and not os.path.isfile(path))
        return open(path if direct else f"{os.path.realpath(path)}.torchtop-{os.getpid()}", "wb")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; give another file with -o") from None


def export(target: str, options: Options, lines: bool, path: str | None) -> int:
    """Watch TARGET and write it down; returns the exit code. Raises `TorchtopError`."""
    job = find(target)
    writer = JsonWriter(path, lines)
    if lines and options.duration_s is None:
        options = options._replace(horizon_s=_HORIZON_S)
    try:
        outcome = watch(job, options, writer.take)
    except BaseException:
        writer.abandon()
        raise
    writer.finish()
    if outcome.interrupted:
        return 130
    problem = nothing_measured(job, outcome)
    if problem is not None:
        raise problem
    return 0
