"""Shell that gives a program a /tmp of its own, run under `unshare --mount`; ends in `&&`."""

from __future__ import annotations

import os
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]


def new_tmp(options: str = "") -> str:
    """options: of mount(8) for the new one, such as `,ro`. A checkout that lies below /tmp is put back into it."""
    mount = "mount -t tmpfs tmpfs /tmp &&"
    if CHECKOUT.is_relative_to("/tmp"):
        old = f"/dev/shm/old-{os.getpid()}"
        below = CHECKOUT.relative_to("/tmp")
        mount = (
            f"mkdir -p {old} && mount --bind /tmp {old} && {mount} mkdir -p {CHECKOUT} && "
            f"mount --bind {old}/{below} {CHECKOUT} && umount {old} && rmdir {old} &&"
        )
    return f"{mount} mount -o remount{options} /tmp &&"
