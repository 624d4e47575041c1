"""What happens on the screen that is not a key."""

from __future__ import annotations

from textual.message import Message

from torchtop.snapshot import Finding, Snapshot


class Seen(Message):
    """A new snapshot. Of several that wait only the newest counts."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Seen)


class Looked(Message):
    """Another layer is looked at closely, or none any more."""

    def __init__(self, layer: str | None) -> None:
        super().__init__()
        self.layer = layer


class Opened(Message):
    """A finding is to be read closely."""

    def __init__(self, finding: Finding) -> None:
        super().__init__()
        self.finding = finding


class Chosen(Message):
    """A job of the list is to be watched. target: a PID of it."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target
