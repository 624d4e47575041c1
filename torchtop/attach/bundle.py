"""The probe's source as one blob for one target: code objects where pyc magic agrees, else source in short pieces."""

from __future__ import annotations
import __future__

import ast
import importlib.util
import marshal
import threading
from functools import lru_cache
from importlib.resources import files
from types import CodeType

# In the order in which they import one another.
MODULES = (
    "",
    "wire",
    "watch",
    "watch.hookdict",
    "watch.patch",
    "watch.mark",
    "watch.device",
    "watch.module_table",
    "watch.program",
    "watch.modes",
    "watch.call_site",
    "watch.pace",
    "watch.gradients",
    "watch.passes",
    "watch.forward",
    "watch.budget",
    "watch.weight_plan",
    "watch.weight_reading",
    "watch.weights",
    "watch.loader_facts",
    "watch.loader",
    "watch.loss",
    "watch.anchor",
    "watch.step",
    "watch.backward",
    "watch.garbage",
    "watch.saving",
    "watch.clearing",
    "watch.compiled",
    "watch.stops",
    "watch.several",
    "watch.root_call",
    "watch.facts",
    "watch.no_optimizer",
    "watch.optimizers",
    "watch.watch",
    "client",
    "door",
    "weight_teller",
    "pause_teller",
    "teller",
    "agent",
)
PIECE_LINES = 200  # compile() of a piece holds the target's GIL: 200 lines take about 3 ms
_building = threading.Lock()
_MARSHAL_VERSION = 2  # readable by every CPython 3; code objects are sent only to the very same magic number


def build(magic: str) -> bytes:
    """The bundle for an interpreter with pyc magic `magic` (hex). See probe/boot.py for its shape. Takes 30 ms once."""
    with _building:  # all ranks ask at the same moment
        return _built(magic)


@lru_cache(maxsize=4)
def _built(magic: str) -> bytes:
    same = magic == importlib.util.MAGIC_NUMBER.hex()
    modules = []
    for name in MODULES:
        source = _source(name)
        target = f"_torchtop.{name}" if name else "_torchtop"
        modules.append((target, (_compiled(source, target),) if same else pieces(source)))
    boot = (files("torchtop.probe") / "boot.py").read_text()
    first = _compiled(boot, "_torchtop.boot") if same else boot
    return marshal.dumps((first, tuple(modules)), marshal.version if same else _MARSHAL_VERSION)


def _source(name: str) -> str:
    file = "/".join([*name.split("."), "__init__.py"]) if name in ("", "watch") else name.replace(".", "/") + ".py"
    return files("torchtop.probe").joinpath(file.lstrip("/")).read_text()


def _compiled(source: str, name: str) -> CodeType:
    # optimize=2 drops docstrings: a third of the bytes that the target has to hold.
    code: CodeType = compile(source, f"<{name}>", "exec", __future__.annotations.compiler_flag, True, optimize=2)
    return code


def pieces(source: str) -> tuple[str, ...]:
    """Cut a module between top-level statements into texts of at most `PIECE_LINES` lines each.

    Raises ValueError when one statement alone is longer: it has to be made shorter.
    """
    lines = source.splitlines(keepends=True)
    starts = [
        min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))]) - 1
        for node in ast.parse(source).body
    ]
    cuts, begin = [], 0
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        if end - start > PIECE_LINES:
            raise ValueError(f"a statement of {end - start} lines cannot be sent in one piece")
        if end - begin > PIECE_LINES:
            cuts.append(begin)
            begin = start
    cuts.append(begin)
    return tuple("".join(lines[a:b]) for a, b in zip(cuts, [*cuts[1:], len(lines)], strict=True))
