"""Where the modules of one rank are called. Built from the probe's `sites` messages."""

from __future__ import annotations

from typing import Any

from torchtop.probe import wire
from torchtop.snapshot import Frame


class CallSites:
    """Stacks by module index, put together when they are asked for."""

    def __init__(self) -> None:
        self._rows: dict[int, tuple[int, Frame]] = {}
        self._site_of: dict[int, int] = {}
        self._stacks: dict[int, tuple[Frame, ...]] = {}

    def add(self, message: dict[str, Any]) -> None:
        """Take in one `sites` message (see probe/watch/call_site.py); one that is told again changes nothing."""
        for number, (caller, function, file, line) in enumerate(message["frames"], message["first"]):
            self._rows[number] = (caller, Frame(function=function, file=file, line=line))
        self._site_of.update(message["calls"])

    def of(self, index: int) -> tuple[Frame, ...] | None:
        """Frames that call module `index`, innermost first; None when that is not known, or not in full."""
        site = self._site_of.get(index)
        if site is None:
            return None
        known = self._stacks.get(site)
        if known is None:
            known = self._put_together(site)
            if known is not None:
                self._stacks[site] = known
        return known

    def _put_together(self, site: int) -> tuple[Frame, ...] | None:
        frames: list[Frame] = []
        while site >= 0 and len(frames) < wire.SITE_FRAMES:
            row = self._rows.get(site)
            if row is None:
                return None  # its message was lost
            site, frame = row
            frames.append(frame)
        return tuple(frames)
