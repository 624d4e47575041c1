"""The interpreter that a target runs on, to be started once more beside it: as the same user, with the same torch.

A program of ours that needs the target's torch runs there, never in the target itself.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from typing import Any, NamedTuple

from torchtop.attach import proc
from torchtop.attach.check import CANDIDATES
from torchtop.attach.permission import permission_sentence
from torchtop.errors import AttachError, NoTarget, UsageError

_TORCH = "/torch/lib/libtorch_cpu.so"
# What decides whether the interpreter starts, and how fast its torch computes. Not its devices, its rank, its secrets.
_INHERITED = re.compile(r"(LD|MKL|ONEDNN|DNNL|KMP|GOMP|ATEN|OPENBLAS|MALLOC|GLIBC)_|(LANG|LC_ALL|PATH|HOME)$")


class Interpreter(NamedTuple):
    """How to start it: `subprocess.run(command(...), **popen)`."""

    path: str
    folders: tuple[str, ...]
    """What has to come first on its path for the target's torch to be found."""
    popen: dict[str, Any]

    def command(self, *arguments: str) -> tuple[str, ...]:
        """The arguments to start it with. Isolated: neither the user's PYTHON* variables nor a sitecustomize of ours
        in them may reach it."""
        return (self.path, "-I", *arguments)


def own_interpreter() -> Interpreter:
    """The one that runs torchtop. Raises `UsageError` if it has no torch, which it need not have."""
    if importlib.util.find_spec("torch") is None:
        raise UsageError(
            "torchtop runs in an environment without torch, and only the job's own can be measured with: give the "
            "PID of a job, torchtop doctor PID --calibrate"
        )
    return Interpreter(sys.executable, (), {"env": _inherited(dict(os.environ)), "cwd": "/"})


def interpreter_of(pid: int) -> Interpreter:
    """The one that runs `pid`.

    Raises `NoTarget` when it is gone or has no torch loaded, `AttachError` when it may not be looked at or cannot be
    run from here.
    """
    try:
        credentials = proc.credentials(pid)
        path = os.readlink(proc.PROC / str(pid) / "exe")
        libraries = [mapping.path for mapping in proc.mappings(pid) if mapping.path.endswith(_TORCH)]
        environment = proc.environment(pid)
        command = proc.command_line(pid)
    except PermissionError as error:
        raise AttachError(permission_sentence(pid, error)) from None
    except (FileNotFoundError, ProcessLookupError):
        raise NoTarget(f"there is no process {pid}: {CANDIDATES}") from None
    if not libraries:
        raise NoTarget(f"process {pid} has no torch loaded: give the PID of a PyTorch job")
    if proc.namespace(pid, "mnt") != proc.namespace("self", "mnt"):
        raise AttachError(f"process {pid} runs in a container, where its interpreter is: run torchtop in there")
    if not os.path.exists(path):
        raise AttachError(f"the interpreter of process {pid} was replaced since it started ({path})")
    popen: dict[str, Any] = {"env": _inherited(environment), "cwd": "/"}
    uid, gid = credentials.uids[1], credentials.gids[1]
    if os.geteuid() == 0 and uid != 0:
        # What another user may have written must not run as root.
        popen.update(user=uid, group=gid, extra_groups=credentials.groups)
    return Interpreter(_as_called(pid, path, command, environment), (libraries[0].removesuffix(_TORCH),), popen)


def _as_called(pid: int, path: str, command: tuple[str, ...], environment: dict[str, str]) -> str:
    """The name by which the target was started, if that is still the same file: a virtual environment is known by it."""
    name = command[0] if command else ""
    if "/" in name:
        called = os.path.join(os.readlink(proc.PROC / str(pid) / "cwd"), name)
    else:
        called = shutil.which(name, path=environment.get("PATH", "")) or path
    return called if os.path.realpath(called) == path else path


def _inherited(environment: dict[str, str]) -> dict[str, str]:
    # Devices stay untouched: looking at one would take memory on it.
    return {key: value for key, value in environment.items() if _INHERITED.match(key)} | {"CUDA_VISIBLE_DEVICES": ""}
