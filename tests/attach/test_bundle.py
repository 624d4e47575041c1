"""The probe's code on its way into a target: pieces that compile shortly, and the same module either way."""

from __future__ import annotations

import importlib.util
import marshal
from types import CodeType

import pytest

from torchtop.attach import bundle


def test_pieces_are_short_and_lose_nothing() -> None:
    source = "".join(f"def f{i}():\n    return {i}\n\n\n" for i in range(200))
    cut = bundle.pieces(source)
    assert "".join(cut) == source
    assert len(cut) > 1 and all(piece.count("\n") <= bundle.PIECE_LINES for piece in cut)


def test_a_decorator_stays_with_its_function() -> None:
    source = "import functools\n" + "x = 1\n" * (bundle.PIECE_LINES - 2) + "@functools.cache\ndef f():\n    return 1\n"
    assert bundle.pieces(source)[1].startswith("@functools.cache")


def test_a_statement_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="one piece"):
        bundle.pieces("def f():\n" + "    x = 1\n" * bundle.PIECE_LINES)


def test_code_objects_only_for_the_very_same_magic() -> None:
    first, modules = marshal.loads(bundle.build(importlib.util.MAGIC_NUMBER.hex()))
    assert isinstance(first, CodeType) and all(isinstance(p, CodeType) for _, pieces in modules for p in pieces)
    other, modules = marshal.loads(bundle.build("610d0d0a"))
    assert isinstance(other, str) and all(isinstance(p, str) for _, pieces in modules for p in pieces)
