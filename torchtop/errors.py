"""What can go wrong, as sentences for the user.

    TorchtopError       base; the message is a sentence and names the fix; carries the exit code
    ├─ Unavailable      a source is absent here: its collector is shown as off, with the reason
    ├─ UsageError       an argument or file is wrong (exit 2)
    ├─ NoTarget         no such process, or not a PyTorch process (exit 3)
    ├─ AttachError      attaching is not permitted or not possible now (exit 4)
    │  └─ ProbeImpossible   no probe can ever run there; what can be seen from outside is shown instead
    ├─ NothingMeasured  attached, but no safe point or no step came in time (exit 5)
    └─ ProtocolError    probe and monitor disagree about what is on the wire (exit 4)

Exit codes are API (README, "Exit codes"). Errors are printed once, at the edge, on one stderr line.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import ClassVar


class TorchtopError(Exception):
    """A failure with a sentence for the user: what was recognised, and what to do about it."""

    exit_code: ClassVar[int] = 1


class Unavailable(TorchtopError):
    """A source of numbers does not exist on this machine; everything else goes on."""


class UsageError(TorchtopError):
    """The command line or a file named on it is wrong."""

    exit_code = 2


class NoTarget(TorchtopError):
    """TARGET names no process, or one that torchtop has no business with."""

    exit_code = 3


class AttachError(TorchtopError):
    """The target is there, but may not or cannot be attached to now."""

    exit_code = 4


class ProbeImpossible(AttachError):
    """The target may be looked at, but no probe can run in it: the outside view is all there is."""


class NothingMeasured(TorchtopError):
    """The target was reached and left again, without one complete step in between."""

    exit_code = 5


class ProtocolError(TorchtopError):
    """The other side of the socket speaks another version, or no JSON at all."""

    exit_code = 4


def in_words(bug: Exception) -> str:
    """An exception that is none of these, for the place that goes on without what broke."""
    where = traceback.extract_tb(bug.__traceback__)[-1]
    return f"a bug in torchtop: {bug!r} at {Path(where.filename).name}:{where.lineno}"
