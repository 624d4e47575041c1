"""Everything about one process that decides whether, and how, torchtop gets into it. Each by looking, nothing by trying.

The refusals of an attach and the rows of `torchtop doctor PID` are the same `Check`s.
"""

from __future__ import annotations

import os
import re
import stat
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from torchtop.attach import c_api, census, proc, rendezvous, torch_files
from torchtop.attach.census import Process
from torchtop.attach.check import CANDIDATES, NO_TARGET, NOT_NOW, Check
from torchtop.attach.permission import permissions, state_checks
from torchtop.attach.surroundings import COOPERATE
from torchtop.errors import AttachError

DISABLE = "TORCHTOP_DISABLE"
OLDEST_PYTHON = (3, 9)
_VERSION = re.compile(r"/(?:lib)?python(3)\.(\d+)")
_ACCEPTS, _CONNECTED = "00010000", "03"  # flag and state in /proc/net/unix (net/unix/af_unix.c)
_STRICT, _FILTER = 1, 2


def examine(pid: int) -> list[Check]:
    """All checks of one process; only those that could be made. Never raises for what the process is."""
    rows = state_checks(pid)
    if any(row.blocks == NO_TARGET for row in rows):
        return rows
    process = census.process(pid)
    if process is None:
        return [*rows, _gone(pid)]
    try:
        listens = _sockets(pid)
        rights = permissions(pid)
        if listens and process.readable:
            # An attach goes to that socket, and needs none of these.
            rights = [right._replace(ok=None, fix=None, blocks=0) if right.blocks else right for right in rights]
        rows += [*what_it_is(process), disabled(pid, process.environment), *rights]
        if process.libtorch:
            rows += [_interpreter(pid, bool(listens)), _python_version(process), _torch(process)]
            rows += [*_namespaces(pid), _rendezvous(pid), _target_seccomp(pid), _watched(pid, listens)]
            rows += [_COMPILED, shares_packages(process)]
    except OSError:
        rows.append(_gone(pid))
    return rows


def what_it_is(process: Process) -> list[Check]:
    """Whether it is Python, and has loaded PyTorch."""
    pid = process.pid
    if not process.readable:
        return [Check("torch", None, "its memory map may not be read, so whether it has PyTorch cannot be told")]
    if not process.python and process.libtorch is None:
        name = os.path.basename(process.exe or process.name)
        return [
            Check("python", False, f"process {pid} ({name}) is not a Python process: {CANDIDATES}", None, NO_TARGET)
        ]
    python = Check("python", True, f"process {pid} is Python")
    if not process.python:
        python = Check("python", None, f"process {pid} is not called Python; another program may have one inside")
    if process.libtorch is None:
        found = f"process {pid} is Python, but has not loaded PyTorch: {CANDIDATES}"
        return [python, Check("torch", False, found, None, NO_TARGET)]
    return [python, Check("torch", True, f"PyTorch is loaded ({process.libtorch})")]


def disabled(pid: int, environment: Mapping[str, str] | None) -> Check:
    """The job's own wish not to be attached to."""
    if environment is None:
        return Check("disabled", None, "the environment of the job cannot be read")
    if environment.get(DISABLE) != "1":
        return Check("disabled", True, f"{DISABLE} is not set in the job's environment")
    found = f"process {pid} was started with {DISABLE}=1 and must not be attached to; start it without that variable next time"
    return Check("disabled", False, found, None, NOT_NOW)


def shares_packages(process: Process) -> Check:
    """Whether torchtop is installed among the packages of the job: installing it may have changed them."""
    assert process.libtorch is not None
    theirs = proc.inside(process.pid, os.path.dirname(torch_files.folder(process.libtorch)))
    ours = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), str(Path(__file__).parents[2])}
    try:
        shared = any(os.path.samefile(theirs, folder) for folder in ours)
    except OSError:
        return Check("installation", None, "the job's packages cannot be seen from here")
    if not shared:
        return Check("installation", True, "torchtop is installed apart from the job")
    found = "torchtop is installed beside the job's packages, and installing it may have changed their versions"
    return Check("installation", False, found, "uv tool install torchtop")


def _interpreter(pid: int, listens: bool) -> Check:
    blocks = 0 if listens else NOT_NOW
    try:
        c_api.check_architecture(pid)
        c_api.find(pid)
    except AttachError as refused:
        return Check("interpreter", False, str(refused), COOPERATE, blocks)
    except PermissionError:
        return Check("interpreter", None, "its memory map cannot be read")
    return Check("interpreter", True, "CPython for x86-64 with exported symbols")


def _python_version(process: Process) -> Check:
    version = python_version(process)
    if version is None:
        return Check("python version", None, "no file of the process says which Python it is")
    text = ".".join(map(str, version))
    if version < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        found = f"process {process.pid} runs Python {text}: torchtop needs {oldest} or newer"
        return Check("python version", False, found, None, NOT_NOW)
    return Check("python version", True, f"Python {text}")


def python_version(process: Process) -> tuple[int, int] | None:
    """(major, minor) by the name of its executable, its libpython or its library folder, in this order."""
    paths = sorted({mapping.path for mapping in proc.mappings(process.pid)}, key=lambda path: "/libpython" not in path)
    for path in [process.exe or "", *paths]:
        found = _VERSION.search(path)
        if found:
            return int(found[1]), int(found[2])
    return None


def _torch(process: Process) -> Check:
    version = torch_files.version(process.pid, process.libtorch or "")
    if version is None:
        return Check("torch version", None, "version.py of its PyTorch cannot be read")
    return Check("torch version", True, f"PyTorch {version}; what its hooks can do is seen when attached")


def _namespaces(pid: int) -> list[Check]:
    rows = []
    for kind, name in (("mnt", "mount namespace"), ("pid", "PID namespace"), ("time", "time namespace")):
        theirs = proc.namespace(pid, kind)
        if theirs is None:
            rows.append(Check(name, None, "not to be seen from here"))
        elif theirs == proc.namespace("self", kind):
            rows.append(Check(name, True, "the same as torchtop's"))
        else:
            pids = proc.status(pid).pids
            inner = f" (there it is process {pids[-1]})" if kind == "pid" and len(pids) > 1 else ""
            how = {"mnt": ", reached through /proc/PID/root", "pid": inner, "time": ""}[kind]
            rows.append(Check(name, True, f"the job is in another one{how}: no hindrance"))
    return rows


def _rendezvous(pid: int) -> Check:
    status, credentials = proc.status(pid), proc.credentials(pid)
    folders = rendezvous.folders(pid, status.uid)
    parents = [os.path.dirname(folder) for folder in folders]
    if not os.access(proc.inside(pid, "/"), os.X_OK):
        return Check("socket", None, "the folders for its socket cannot be seen from here")
    for folder in parents:
        if _writable(proc.inside(pid, folder), credentials):
            return Check("socket", True, f"the job can put its socket into {folder}")
    found = f"process {pid} can write to none of {', '.join(parents)}, where its socket would have to be"
    return Check("socket", False, found, f"sudo mount -t tmpfs tmpfs {proc.inside(pid, '/dev/shm')}", NOT_NOW)


def _writable(folder: Path, who: proc.Credentials) -> bool:
    """Whether a process with these credentials may make a folder there."""
    try:
        facts = folder.stat()
        if not stat.S_ISDIR(facts.st_mode) or os.statvfs(folder).f_flag & os.ST_RDONLY:
            return False
    except OSError:
        return False
    if who.uids[1] == 0 or facts.st_uid == who.uids[1]:
        return who.uids[1] == 0 or bool(facts.st_mode & stat.S_IWUSR)
    if facts.st_gid in (who.gids[1], *who.groups):
        return bool(facts.st_mode & stat.S_IWGRP)
    return bool(facts.st_mode & stat.S_IWOTH)


def _target_seccomp(pid: int) -> Check:
    mode = proc.credentials(pid).seccomp
    if mode == _STRICT:
        found = f"process {pid} is in strict seccomp mode: it may not open a socket"
        return Check("job's seccomp", False, found, None, NOT_NOW)
    if mode == _FILTER:
        return Check("job's seccomp", None, "the job has a seccomp filter; what it forbids shows when attached")
    return Check("job's seccomp", True, "the job has no seccomp filter")


def _sockets(pid: int) -> dict[str, int]:
    """Paths of sockets of ours on which the process listens now, each with how many are connected to it."""
    try:
        meetings = rendezvous.existing_meetings(pid)
        table = (proc.PROC / str(pid) / "net/unix").read_text() if meetings else ""
    except OSError:
        return {}
    lines = [line.split() for line in table.splitlines()]
    bound = [fields for fields in lines if len(fields) == 8]
    paths = {f"{meeting.folders[0]}/{meeting.file}" for meeting in meetings}
    listening = {fields[7] for fields in bound if fields[3] == _ACCEPTS} & paths
    return {path: sum(fields[7] == path and fields[5] == _CONNECTED for fields in bound) for path in listening}


def _watched(pid: int, listens: dict[str, int]) -> Check:
    watchers = sum(listens.values())
    if watchers:
        return Check("watched", True, f"process {pid} is already watched ({watchers} connected); others may join")
    if listens:
        return Check("watched", True, f"process {pid} listens for torchtop: no ptrace is needed")
    return Check("watched", None, "no torchtop watches it now")


_COMPILED = Check("compiled", None, "whether its model is compiled (then layers are not timed) is seen when attached")


def _gone(pid: int) -> Check:
    return Check("process", False, f"process {pid} ended while it was being looked at", None, NO_TARGET)
