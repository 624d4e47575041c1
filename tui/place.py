"""Where in its code a rank was when its stack was read last."""

from __future__ import annotations

import os
from collections.abc import Iterator

from torchtop.snapshot import Frame, Snapshot


def places(snapshot: Snapshot, pid: int | None) -> Iterator[str]:
    """`function (file.py:12)` for each frame of the main thread of that process, innermost first.

    Those with which `nn.Module` calls a module are left out: there are two for each module, and they say nothing.
    """
    for stack in snapshot.stacks:
        if stack.pid == pid and stack.main:
            yield from (_place(frame) for frame in stack.frames if not frame.function.endswith("_call_impl"))


def _place(frame: Frame) -> str:
    name = frame.function.rpartition("<locals>.")[2]  # decorators of torch are named by all that is around them
    return f"{name} ({os.path.basename(frame.file)}:{frame.line})"
