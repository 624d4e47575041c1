"""Text that needs no screen: printed by commands that load nothing heavy, and by the panels."""

from __future__ import annotations

import os
import textwrap


def printable(text: str) -> str:
    """`text` without what could move the cursor: names and command lines come from the target."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def wrapped(first: str, text: str, width: int) -> list[str]:
    """`first` and then `text`, folded at `width`; later lines begin below the beginning of `text`."""
    return textwrap.wrap(
        printable(text),
        width,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_on_hyphens=False,
    ) or [first.rstrip()]


def command_line(command: str) -> str:
    """The command with its program's name only: interpreters have long paths."""
    program, space, rest = command.partition(" ")
    return os.path.basename(program) + space + rest
