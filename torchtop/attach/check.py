"""One thing that may keep torchtop from a process, as `doctor` lists it and as an attach refuses because of it."""

from __future__ import annotations

from typing import NamedTuple

from torchtop.errors import AttachError, NoTarget, TorchtopError

CANDIDATES = "`torchtop ps` lists candidates"
NO_TARGET, NOT_NOW = NoTarget.exit_code, AttachError.exit_code


class Check(NamedTuple):
    """What was looked at and what was found."""

    name: str
    ok: bool | None
    """None: does not apply, or cannot be known."""
    found: str
    fix: str | None = None
    """The command line that helps, and nothing else."""
    blocks: int = 0
    """Exit code of an attach that this stops; 0 for what does not stop one."""

    def error(self) -> TorchtopError:
        """The refusal."""
        sentence = f"{self.found}: {self.fix}" if self.fix else self.found
        return NoTarget(sentence) if self.blocks == NO_TARGET else AttachError(sentence)


def refuse(*checks: Check) -> None:
    """Raise the first check that blocks."""
    for check in checks:
        if check.blocks:
            raise check.error()
