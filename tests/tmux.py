"""A terminal for torchtop: a tmux server of its own, whose screen can be read and whose bytes can be counted."""

from __future__ import annotations

import os
import pty
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import wait_for

TMUX = shutil.which("tmux")


class Terminal:
    """One pane. When the program in it has ended its last screen stays, and `status` is no longer None."""

    def __init__(self, folder: Path, size: tuple[int, int], command: str) -> None:
        self._socket = folder / "tmux"
        self._status, self._pid = folder / "status", folder / "pid"
        self._tmux("-f", "/dev/null", "new-session", "-d", "-s", "it", "sleep", "1000")
        self._tmux("set-option", "-g", "window-size", "manual")
        self.resize(*size)
        inner = f"echo $$ > {shlex.quote(str(self._pid))}; {command}"
        outer = f"sh -c {shlex.quote(inner)}; echo $? > {shlex.quote(str(self._status))}; exec sleep 1000"
        self._tmux("respawn-pane", "-k", "-t", "it", outer)

    def _tmux(self, *args: str) -> str:
        assert TMUX is not None
        done = subprocess.run([TMUX, "-S", str(self._socket), *args], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"tmux {args[0]}: {done.stderr}"
        return done.stdout

    def lines(self) -> list[str]:
        """What is on screen."""
        return self._tmux("capture-pane", "-p", "-t", "it").split("\n")

    def text(self) -> str:
        """The same as one text."""
        return "\n".join(self.lines())

    def press(self, *keys: str) -> None:
        """Keys as tmux names them: `1`, `Space`, `Escape`."""
        self._tmux("send-keys", "-t", "it", *keys)

    def resize(self, columns: int, rows: int) -> None:
        self._tmux("resize-window", "-t", "it", "-x", str(columns), "-y", str(rows))

    def shows(self, pattern: str) -> re.Match[str]:
        """Wait until the screen has `pattern` on it."""

        def found() -> re.Match[str] | None:
            return re.search(pattern, self.text())

        try:
            match: re.Match[str] = wait_for(found, f"{pattern!r} on screen", 30.0)
        except AssertionError as error:
            raise AssertionError(f"{error}; there is:\n{self.text()}") from None
        return match

    def of_pane(self, name: str) -> str:
        """A variable of tmux(1), such as `alternate_on`."""
        return self._tmux("display-message", "-p", "-t", "it", f"#{{{name}}}").strip()

    @property
    def pid(self) -> int:
        """Process of the program, if its command line ends in `exec` and the program."""
        return int(self._pid.read_text())

    @property
    def status(self) -> int | None:
        """Exit status of the program, as a shell has it; None while it runs."""
        text = self._status.read_text() if self._status.exists() else ""
        return int(text) if text else None

    def ended(self) -> int:
        """Wait for the end of the program; its exit status."""
        try:
            wait_for(lambda: self.status is not None, "the program to end", 30.0)
        except AssertionError as error:
            raise AssertionError(f"{error}; there is:\n{self.text()}") from None
        status = self.status
        assert status is not None
        return status

    def copy_bytes_to(self, path: Path) -> None:
        """Write everything that the program writes from now on to a file as well."""
        self._tmux("pipe-pane", "-t", "it", f"cat > {shlex.quote(str(path))}")

    def visit(self) -> None:
        """Attach a client of tmux from a terminal of its own, and detach it again."""
        ours, theirs = pty.openpty()
        command = [str(TMUX), "-S", str(self._socket), "attach-session", "-t", "it"]
        client = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm-256color"}
        )
        try:
            wait_for(lambda: self._tmux("list-clients"), "the client to be there", 10.0)
            self._tmux("detach-client", "-s", "it")
            client.wait(10)
        finally:
            client.kill()
            client.wait()
            os.close(ours)
            os.close(theirs)

    def hang_up(self) -> None:
        """Close the terminal, as when the connection is lost: SIGHUP to what runs in it."""
        subprocess.run([str(TMUX), "-S", str(self._socket), "kill-server"], capture_output=True, check=False)


@contextmanager
def terminal(folder: Path, command: str, size: tuple[int, int] = (120, 40)) -> Iterator[Terminal]:
    """`command`, a line for the shell, in a terminal of that size (columns, rows); closed at the end."""
    pane = Terminal(folder, size, command)
    try:
        yield pane
    finally:
        pane.hang_up()
