"""Have a target of Python 3.14 or newer run our script by itself, asked with `sys.remote_exec` (PEP 768).

Nothing is stopped and no architecture is assumed. Its own interpreter asks, because both sides have to be the same
Python, as the target's user, because what that user may have written must not run as root, and inside its namespaces.
The script lies in the rendezvous folder until it has run, and removes itself.
"""

from __future__ import annotations

import marshal
import os
import shutil
import subprocess
from importlib.resources import files
from typing import Any, NamedTuple

from torchtop.attach import payload, proc
from torchtop.attach.c_api import Unsuited, python_version
from torchtop.attach.ptrace import read_memory, write_memory
from torchtop.attach.rendezvous import Meeting

METHOD = "remote-exec"
_FIRST = (3, 14)
_CALL_S = 10.0  # s for the interpreter to start on a busy machine
_MARSHAL_VERSION = 2  # readable by every CPython 3
_SEARCHED = 64 << 20  # bytes of the interpreter's own data that are looked through at most
_ENVIRONMENT = ("LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPLATLIBDIR")  # what it takes to start; the rest is the user's


_Order = tuple[int | None, tuple[str, ...], str, str | None]  # see remote_call.py


class Script(NamedTuple):
    """A script that waits in the target for its interpreter."""

    pid: int
    meeting: Meeting
    path: str
    method: str = METHOD
    pause_s: float | None = None
    page: int | None = None

    def cancel(self) -> str | None:
        """Have it not be run; returns what is left, None if nothing is.

        The request is the script's path, in the thread state of the main thread: once empty, nothing is opened. With
        the path still there, a script that is gone would be reported on the job's stderr.
        """
        wanted = os.fsencode(self.path) + b"\0"
        for mapping in _own_data(self.pid):
            data = read_memory(self.pid, mapping.start, min(mapping.end - mapping.start, _SEARCHED))
            at = data.find(wanted)
            if at >= 0:
                write_memory(self.pid, mapping.start + at, b"\0")
                _call(self.pid, (None, self.meeting.folders, os.path.basename(self.path), None))
                return None
        if not proc.inside(self.pid, self.path).exists():
            return None  # it has run meanwhile
        return f"{self.path} stays until then, and removes itself"


def request(pid: int, meeting: Meeting, expires: float) -> Script:
    """Ask `pid` to run the connector (payload.py) at its next safe point.

    Raises `Unsuited` where that cannot be done: an older Python, remote debugging switched off, no permission.
    """
    version = python_version(pid)
    if version is None or version < _FIRST:
        raise Unsuited("sys.remote_exec needs Python 3.14")
    file = meeting.file.removesuffix(".sock") + ".py"
    order = proc.status(pid).pids[-1], meeting.folders, file, payload.script(meeting, expires, file)
    said, _, detail = _call(pid, order).partition(" ")
    if said != "done":
        raise Unsuited(f"sys.remote_exec did not work: {detail or 'its interpreter said nothing'}")
    return Script(pid, meeting, detail)


def _call(pid: int, order: _Order) -> str:
    """What remote_call.py answers to `order`. Raises `Unsuited` when it cannot be run."""
    program = files("torchtop.attach").joinpath("remote_call.py").read_text()
    command, popen = _interpreter(pid)
    try:
        done = subprocess.run(
            # No site-packages, nothing of the user's, not the current folder: only what is built in.
            [*command, "-S", "-s", "-P", "-c", program],
            input=marshal.dumps(order, _MARSHAL_VERSION),
            capture_output=True,
            timeout=_CALL_S,
            check=False,
            start_new_session=True,  # a Ctrl-C on the terminal is ours to handle
            **popen,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise Unsuited(f"the interpreter of process {pid} could not be run: {problem}") from None
    lines = (done.stderr if done.returncode else done.stdout).decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def _interpreter(pid: int) -> tuple[list[str], dict[str, Any]]:
    """The command that runs the target's interpreter as its user where it lives, and what Popen needs for it."""
    path = os.readlink(proc.PROC / str(pid) / "exe").removesuffix(" (deleted)")
    credentials = proc.credentials(pid)
    environment = {name: value for name, value in proc.environment(pid).items() if name in _ENVIRONMENT}
    uid, gid = credentials.uids[1], credentials.gids[1]
    here = all(proc.namespace(pid, kind) == proc.namespace("self", kind) for kind in ("mnt", "pid"))
    if here and os.path.samefile(proc.inside(pid, "/"), "/"):
        popen: dict[str, Any] = {"env": environment, "executable": str(proc.PROC / str(pid) / "exe"), "cwd": "/"}
        if os.geteuid() == 0 and uid != 0:
            popen.update(user=uid, group=gid, extra_groups=credentials.groups)
        return [path], popen
    enter = shutil.which("nsenter")
    if enter is None or os.geteuid() != 0:
        raise Unsuited("its namespaces can be entered by root only, with nsenter")
    where = ["--target", str(pid), "--mount", "--pid", "--root", "--wd", f"--setuid={uid}", f"--setgid={gid}"]
    # LD_LIBRARY_PATH is set by the target's own `env`, already as its user: nsenter is still root.
    assigned = ["env", *(f"{name}={value}" for name, value in environment.items())] if environment else []
    return [enter, *where, "--", *assigned, path], {"env": {"PATH": "/usr/bin:/bin"}}


def _own_data(pid: int) -> list[proc.Mapping]:
    """Writable memory of the interpreter's own file: its data, and what follows it without a file (bss)."""
    executable = os.readlink(proc.PROC / str(pid) / "exe")
    found: list[proc.Mapping] = []
    end = 0
    for mapping in proc.mappings(pid):
        own = mapping.path == executable or "libpython" in os.path.basename(mapping.path)
        if mapping.permissions.startswith("rw") and (own or (mapping.path == "" and mapping.start == end)):
            found.append(mapping)
        end = mapping.end if own else 0
    return found
