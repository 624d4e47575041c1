"""Text that needs no screen."""

from __future__ import annotations

from torchtop.tui.text import plain


def test_later_lines_begin_below_the_first() -> None:
    assert plain.wrapped("GPU  ", "no driver here", 14) == ["GPU  no driver", "     here"]


def test_what_could_move_the_cursor_is_taken_out() -> None:
    assert plain.printable("a\x1b[2Jb\nc\u202e") == "a?[2Jb?c?"


def test_the_program_is_named_without_its_folder() -> None:
    assert plain.command_line("/home/me/.venv/bin/python train.py") == "python train.py"
