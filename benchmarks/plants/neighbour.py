"""Somebody else's program, which is always busy: python neighbour.py 4 keeps four processes busy."""

from __future__ import annotations

import os
import sys

children = [os.fork() for _ in range(int(sys.argv[1]) - 1)] if len(sys.argv) > 1 else []
total = 0
while True:
    total = (total * 31 + 7) % 1_000_003
