"""What the installed PyTorch of a process says about itself, read from its files. Nothing is imported or run."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

from torchtop.attach import proc
from torchtop.attach.role import WORKER_NAME

_VERSION = re.compile(r"^__version__ *= *['\"]([^'\"]+)", re.MULTILINE)


def folder(libtorch: str) -> str:
    """The torch package around a mapped libtorch (torch/lib/libtorch_cpu.so)."""
    return os.path.dirname(os.path.dirname(libtorch))


def version(pid: int, libtorch: str) -> str | None:
    """torch.__version__ as its version.py has it; None where that cannot be read."""
    found = _VERSION.search(_text(pid, f"{folder(libtorch)}/version.py"))
    return found[1] if found else None


def names_workers(pid: int, libtorch: str) -> bool:
    """Whether this PyTorch calls the main thread of a DataLoader worker `WORKER_NAME`; False where that is unknown."""
    return WORKER_NAME in _text(pid, f"{folder(libtorch)}/utils/data/_utils/worker.py")


def _text(pid: int, path: str) -> str:
    file = proc.inside(pid, path)
    try:
        facts = file.stat()
        return _cached(str(file), facts.st_ino, facts.st_mtime_ns)
    except OSError:
        return ""


@lru_cache(maxsize=64)
def _cached(file: str, inode: int, changed_ns: int) -> str:
    return Path(file).read_text(errors="replace")
