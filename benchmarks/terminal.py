"""A program on a pseudo-terminal of its own: what it writes, when, and what it costs. Nobody looks, so nothing is drawn."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import termios
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Chunk(NamedTuple):
    """Bytes that came in one read."""

    t: float
    data: bytes


class Terminal:
    """Runs `command` on a terminal of `columns` x `rows` until it ends or `close` is called."""

    def __init__(self, command: Sequence[str], columns: int, rows: int, environment: Mapping[str, str]) -> None:
        size = struct.pack("HHHH", rows, columns, 0, 0)
        known = {**environment, "TERM": "xterm-256color", "LANG": "C.UTF-8", "COLUMNS": "", "LINES": ""}
        known = {name: value for name, value in known.items() if value}
        self.began = time.monotonic()
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(1, termios.TIOCSWINSZ, size)
            os.execve(command[0], list(command), known)
        self.ended = False
        self.used_s = 0.0  # CPU seconds, once it has ended
        self.chunks: list[Chunk] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._fd, 1 << 16)
            except OSError:  # EIO: nobody has the other end any more
                data = b""
            with self._changed:
                if data:
                    self.chunks.append(Chunk(time.monotonic(), data))
                else:
                    self.ended = True
                self._changed.notify_all()
            if not data:
                return

    def press(self, key: bytes) -> float:
        """Send a key; when."""
        t = time.monotonic()
        os.write(self._fd, key)
        return t

    def wait_for(self, pattern: bytes, since: float, patience_s: float) -> float | None:
        """When what has come since `since` first matched `pattern`; None if it did not in time."""
        deadline = time.monotonic() + patience_s
        wanted = re.compile(pattern)
        with self._changed:
            first = len(self.chunks)
            while first and self.chunks[first - 1].t >= since:
                first -= 1
            looked_at = first
            seen = b""
            while True:
                while looked_at < len(self.chunks):
                    seen += self.chunks[looked_at].data
                    looked_at += 1
                    if wanted.search(seen):
                        return self.chunks[looked_at - 1].t
                left = deadline - time.monotonic()
                if left <= 0 or self.ended:
                    return None
                self._changed.wait(left)

    def written(self, since: float, until: float) -> int:
        """Bytes that came between two moments."""
        return sum(len(chunk.data) for chunk in self.chunks if since <= chunk.t < until)

    def text(self) -> str:
        """All of it, without the sequences that move and colour: to say why a program ended."""
        plain = re.sub(
            rb"\x1b(\[[0-9;:?<>=]*[ -/]*[@-~]|[()][A-Z0-9]|[=>78])", b"", b"".join(c.data for c in self.chunks)
        )
        return plain.decode(errors="replace").strip()

    def cpu_s(self) -> float:
        """CPU seconds of the program and of its children that have ended."""
        return _own_s(self.pid) or 0.0

    def memory_bytes(self) -> tuple[int, int]:
        """Resident memory now, and at its highest."""
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines())
        now, peak = (1024 * int(lines[name].split()[0]) for name in ("VmRSS", "VmHWM"))
        return now, peak

    def close(self, key: bytes = b"q", patience_s: float = 20.0) -> int:
        """Let it end by its own key, else by a signal; its exit status as the shell has it."""
        if not self.ended:
            self.press(key)
        self._reader.join(patience_s)
        if self._reader.is_alive():
            os.kill(self.pid, signal.SIGTERM)
            self._reader.join(patience_s)
        if self._reader.is_alive():
            os.kill(self.pid, signal.SIGKILL)
        _, status, usage = os.wait4(self.pid, 0)
        self.used_s = usage.ru_utime + usage.ru_stime
        self._reader.join()
        os.close(self._fd)
        return os.waitstatus_to_exitcode(status)


class Machine:
    """Who uses the processors from now on."""

    def __init__(self) -> None:
        self._t = time.monotonic()
        self._busy_s = self._busy()
        self._used: dict[int, float] = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                self._used[int(folder.name)] = _own_s(int(folder.name)) or 0.0

    @staticmethod
    def _busy() -> float:
        """CPU seconds of all programs since boot: user, nice, system, irq, softirq (proc(5))."""
        fields = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
        return sum(fields[position] for position in (0, 1, 2, 5, 6)) * _TICK_S

    def others(self, ours: Iterable[int], ended_s: float = 0.0) -> float:
        """Cores that were used by other programs than `ours`. ended_s: CPU seconds of ours that have ended."""
        known = sum((_own_s(pid) or 0.0) - self._used.get(pid, 0.0) for pid in ours) + ended_s
        return max(self._busy() - self._busy_s - known, 0.0) / (time.monotonic() - self._t)


def _own_s(pid: int) -> float | None:
    """CPU seconds of a process and its children that have ended; None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return sum(int(value) for value in fields[11:15]) * _TICK_S
