"""What the reader of the snapshots looks at. Imports nothing of ours."""

from __future__ import annotations

from typing import NamedTuple


class Lens(NamedTuple):
    """A screen shows the layers of one rank, and one layer closely: only those are worked out for it.

    pid: process of the rank whose layers are wanted, None for the slowest; layer: name of the one whose history is.
    """

    pid: int | None = None
    layer: str | None = None
