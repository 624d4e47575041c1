"""`torchtop doctor`: what stands against attaching, on this machine or to one process, and the line that helps."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from torchtop.attach import blockers, census, surroundings
from torchtop.attach.check import NO_TARGET, Check
from torchtop.attach.family import Family
from torchtop.attach.job import all_families, not_loaded
from torchtop.errors import UsageError
from torchtop.record import CoreRates

SCHEMA = "torchtop.doctor/1"
_TIMEOUT_S = 10.0
_APART = "uv tool install torchtop"


class Row(Struct, frozen=True):
    """One check."""

    name: Annotated[str, Meta(description="what was looked at")]
    ok: Annotated[bool | None, Meta(description="false: in the way, or missing; null: does not apply, or not knowable")]
    found: Annotated[str, Meta(description="what was found, as a sentence")]
    fix: Annotated[str | None, Meta(description="the command line that helps; null where there is none")]


class Report(Struct, frozen=True):
    """What `torchtop doctor --json` prints."""

    schema: Annotated[str, Meta(description="name and version of this document's format")]
    checks: Annotated[tuple[Row, ...], Meta(description="in the order in which they were made")]
    machine: Annotated[
        CoreRates | None, Meta(description="what one core reached; null without --calibrate and where it failed")
    ] = None


def doctor(text: str | None, as_json: bool, calibrate: bool) -> int:
    """Print all checks; 0 when an attach would not be refused, else its exit code. Raises `UsageError`."""
    if text is not None and not text.isdigit():
        raise UsageError(f"doctor looks at one process: give a PID, not {text!r}; `torchtop ps` lists candidates")
    pid = int(text) if text is not None else None
    checks = of_machine() if pid is None else of_target(pid)
    core = None
    if calibrate:
        from torchtop.collectors.machine import calibrate as measure

        done = measure(pid)
        core = done.core
        checks.append(Check("machine", True, done.sentence))
    rows = tuple(Row(check.name, check.ok, check.found, check.fix) for check in checks)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(Report(SCHEMA, rows, core)), indent=2).decode())
    else:
        print("\n".join(_lines(rows)))
    codes = {check.blocks for check in checks} - {0}
    return NO_TARGET if NO_TARGET in codes else max(codes, default=0)


def of_machine() -> list[Check]:
    """This machine and this installation, whoever the target may be."""
    return [*surroundings.checks(), _nvml(), _py_spy(), _gdb(), _apart(), _cache()]


def of_target(pid: int) -> list[Check]:
    """The process that an attach to `pid` would go to, and the other ranks of its job as far as they are in trouble."""
    processes = census.take()
    family = next((family for family in all_families(processes) if pid in family.pids), None)
    if family is None:
        return blockers.examine(pid)
    ranks = [rank.process.pid for rank in family.ranks]
    rows = [_role(pid, family, ranks)]
    if not ranks:
        return [*rows, not_loaded(pid)]
    first = pid if pid in ranks else ranks[0]
    rows += blockers.examine(first)
    for other in ranks:
        if other != first:
            rows += [row for row in blockers.examine(other) if row.blocks]
    return rows


def _role(pid: int, family: Family, ranks: list[int]) -> Check:
    """What TARGET means when it is this process."""
    listed = ", ".join(map(str, ranks))
    member = next((member for member in family.members if member.process.pid == pid), None)
    if member is None:
        return Check("job", True, f"process {pid} is a launcher; its ranks here are {listed or 'not there yet'}")
    if member.role != "rank":
        kind = "a DataLoader worker" if member.role == "worker" else "a servant"
        return Check("job", True, f"process {pid} is {kind} of process {member.of}; ranks of that job here: {listed}")
    return Check("job", True, f"ranks of this job here: {listed}")


def _nvml() -> Check:
    from torchtop.ps import Gpus

    absent = Gpus().reason
    if absent is not None:
        return Check("nvml", None, f"no GPU can be watched: {absent}")
    return Check("nvml", True, "the NVIDIA driver answers")


def _py_spy() -> Check:
    from torchtop.collectors.stacks import find_py_spy

    path = find_py_spy()
    if path is None:
        return Check("py-spy", False, "py-spy is not installed: no stacks are shown", "pip install py-spy")
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("py-spy", False, f"{path} does not run ({error})", "pip install --force-reinstall py-spy")
    if done.returncode:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        return Check("py-spy", False, f"{path} does not run ({said})", "pip install --force-reinstall py-spy")
    return Check("py-spy", True, f"{done.stdout.strip()} ({path})")


def _gdb() -> Check:
    path = shutil.which("gdb")
    if path is None:
        return Check("gdb", None, "gdb is not installed; it is only used where torchtop's own way in does not fit")
    return Check("gdb", True, f"{path}, used only where torchtop's own way in does not fit")


def _apart() -> Check:
    """A torch beside torchtop means an environment that a job may run in. Only looked for, never imported."""
    if find_spec("torch") is None:
        return Check("installation", True, f"torchtop is installed apart from any PyTorch ({sys.prefix})")
    found = f"PyTorch is in torchtop's environment ({sys.prefix}): do not install or upgrade there while a job runs"
    return Check("installation", False, found, _APART)


def _cache() -> Check:
    from torchtop.collectors.machine_cache import cache_file

    folder = cache_file().parent
    there = folder
    while not there.exists():
        there = there.parent
    if os.access(there, os.W_OK | os.X_OK) and there.is_dir():
        return Check("cache", True, f"{folder} can be written")
    return Check(
        "cache",
        False,
        f"{folder} cannot be written: nothing is kept between runs",
        f"export XDG_CACHE_HOME={_other_cache()}",
    )


def _other_cache() -> Path:
    return Path(os.environ.get("TMPDIR", "/tmp")) / f"torchtop-cache-{os.getuid()}"


def _lines(rows: tuple[Row, ...]) -> list[str]:
    glyphs = {True: "ok", False: "!!", None: "- "}
    width = max(len(row.name) for row in rows)
    lines = []
    for row in rows:
        lines.append(f"{glyphs[row.ok]}  {row.name:<{width}}  {row.found}")
        if row.fix is not None and row.ok is not True:
            lines.append(f"    {'':<{width}}  {row.fix}")
    return lines
