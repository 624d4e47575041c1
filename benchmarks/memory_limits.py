"""A memory limit for a job, and swap if it shall have some: needs root, and is undone at the end."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
END_S = 5.0  # s that the kernel may take to let the last process out of a cgroup


class NotHere(Exception):
    """This machine does not let us; says why."""


@contextmanager
def limited(limit_bytes: int, swap_bytes: int, folder: Path) -> Iterator[list[str]]:
    """A command's first words, which put it under the limit. Raises `NotHere`.

    folder: of this job alone; its swap file is made there.
    """
    if os.geteuid() != 0:
        raise NotHere("a memory limit needs root")
    old = (V1 / "memory.limit_in_bytes").exists()
    group = (V1 if old else V2) / f"torchtop-{folder.name}"
    try:
        group.mkdir()
    except OSError as error:
        raise NotHere(f"no cgroup can be made: {error}") from error
    swap = folder / "swap"
    try:
        try:
            (group / ("memory.limit_in_bytes" if old else "memory.max")).write_text(str(limit_bytes))
            if swap_bytes:
                _swap_on(swap, swap_bytes)
        except (OSError, subprocess.CalledProcessError) as error:
            raise NotHere(f"no memory limit, or no swap, can be had: {error}") from error
        yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
    finally:
        if swap.exists():
            subprocess.run(["swapoff", str(swap)], check=False, capture_output=True)
            swap.unlink()
        _remove(group)


def _swap_on(swap: Path, swap_bytes: int) -> None:
    swap.touch(mode=0o600)
    path = str(swap)
    for command in (["fallocate", "-l", str(swap_bytes), path], ["mkswap", path], ["swapon", path]):
        subprocess.run(command, check=True, capture_output=True)


def _remove(group: Path) -> None:
    deadline = time.monotonic() + END_S
    while True:
        try:
            group.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
