"""Somebody else's program, which is always busy."""

from __future__ import annotations

total = 0
while True:
    total = (total * 31 + 7) % 1_000_003
