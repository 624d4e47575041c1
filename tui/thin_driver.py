"""Textual's driver of a terminal, for one at the other end of a thin line."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from textual.drivers.linux_driver import LinuxDriver
from textual.events import Resize
from textual.message import Message

from torchtop.tui.difference import Difference


class ThinDriver(LinuxDriver):
    """Writes only what changes the picture."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._difference = Difference()
        self._resized = False

    def forget(self) -> None:
        """Something else may have written on the screen: what is drawn next is written whole."""
        self._difference.forget()

    def start_application_mode(self) -> None:
        super().start_application_mode()  # type: ignore[no-untyped-call]
        handle = signal.getsignal(signal.SIGWINCH)

        def resized(number: int, frame: FrameType | None) -> None:
            self._resized = True
            if callable(handle):
                handle(number, frame)

        signal.signal(signal.SIGWINCH, resized)

    def process_message(self, message: Message) -> None:
        # Terminals that tell of it themselves do so here, in a thread of the driver.
        self._resized = self._resized or isinstance(message, Resize)
        super().process_message(message)

    def write(self, data: str) -> None:
        if self._resized:
            self._resized = False
            self._difference.forget()  # terminals fold their lines anew, each in its own way
        narrowed = self._difference.narrowed(data)
        if narrowed:
            super().write(narrowed)
