"""Where torchtop itself runs, as far as that decides whom it may attach to: container, batch system, capabilities."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torchtop.attach import proc
from torchtop.attach.check import Check

CAP_SYS_PTRACE = 1 << 19  # linux/capability.h
COOPERATE = "torchtop run -- CMD..."
_MARKS = {".dockerenv": "Docker", "run/.containerenv": "Podman"}
_PTRACE_DETACH = 17
_SECCOMP = {0: "none", 1: "strict mode", 2: "a filter"}
_SCOPES = {
    "0": "any process of the same user may be attached to",
    "1": "only children of torchtop, and jobs that agreed, may be attached to",
    "2": "only a process with CAP_SYS_PTRACE may attach",
    "3": "nobody may attach until the next boot",
}


class Place(NamedTuple):
    """A container or batch system around us, with the line that helps there."""

    name: str
    fix: str


def sudo(pid: int | str) -> str:
    """The line that attaches as root; sudo's own PATH does not have what a user installed."""
    return f"sudo $(command -v torchtop) attach {pid}"


def place(environment: Mapping[str, str], root: Path = Path("/")) -> Place | None:
    """Kubernetes, Docker, Podman or Slurm, by what they put into the environment and the file system; else None."""
    if "KUBERNETES_SERVICE_HOST" in environment:
        pod = environment.get("HOSTNAME", "POD")  # a pod's host name is its own name, unless it is set apart
        line = f"kubectl debug -it {shlex.quote(pod)} --image=IMAGE --profile=sysadmin --target=CONTAINER"
        return Place("Kubernetes", line)
    for mark, name in _MARKS.items():
        if (root / mark).exists():
            return Place(name, f"{name.lower()} run --cap-add SYS_PTRACE IMAGE CMD...")
    if "SLURM_JOB_ID" in environment:
        job = shlex.quote(environment["SLURM_JOB_ID"])
        return Place("Slurm", f"srun --overlap --jobid={job} --pty bash")
    return None


def yama_scope(root: Path = proc.PROC) -> str | None:
    """kernel.yama.ptrace_scope as text; None in a kernel without Yama, which forbids nothing by it."""
    try:
        return (root / "sys/kernel/yama/ptrace_scope").read_text().strip()
    except OSError:
        return None


def may_ptrace_all() -> bool:
    """Whether we have CAP_SYS_PTRACE in effect. It counts for our own user namespace and those below it."""
    return bool(proc.credentials(os.getpid()).effective & CAP_SYS_PTRACE)


def ptrace_is_forbidden() -> str | None:
    """Why the system call itself is refused to us, by a seccomp filter as a rule; None when it is not."""
    libc = ctypes.CDLL(None, use_errno=True)
    ctypes.set_errno(0)
    # To let go of ourselves, whom nobody traces by us: a kernel that lets the call through says ESRCH and does nothing.
    libc.ptrace(ctypes.c_long(_PTRACE_DETACH), os.getpid(), None, None)
    number = ctypes.get_errno()
    return None if number == errno.ESRCH else os.strerror(number)


def checks() -> list[Check]:
    """What this machine and the way we were started allow, whoever the target may be."""
    return [_system(), yama(yama_scope(), may_ptrace_all()), _capability(), _seccomp(), _container()]


def _system() -> Check:
    machine, release = platform.machine(), platform.release()
    if platform.system() != "Linux":
        return Check("system", False, f"this is {platform.system()}: torchtop needs Linux")
    if machine != "x86_64":
        return Check("system", False, f"Linux {release} on {machine}: attaching by ptrace is for x86-64", COOPERATE)
    return Check("system", True, f"Linux {release} on {machine}")


def yama(scope: str | None, all_allowed: bool) -> Check:
    """What Yama says to attaching, given its scope and whether CAP_SYS_PTRACE is had. Source: Yama.rst of the kernel."""
    if scope is None:
        return Check("yama", True, "this kernel has no Yama, or does not show it: it restricts nothing")
    meaning = f"ptrace_scope is {scope}: {_SCOPES.get(scope, 'what that means is not known')}"
    if scope == "0" or (scope in ("1", "2") and all_allowed):
        return Check("yama", True, meaning)
    return Check("yama", False, meaning, COOPERATE if scope == "3" else sudo("PID"))


def _capability() -> Check:
    if may_ptrace_all():
        return Check("capability", True, "torchtop has CAP_SYS_PTRACE: jobs of other users may be attached to")
    if os.geteuid():
        return Check("capability", None, "torchtop has no CAP_SYS_PTRACE, and needs none for jobs of its own user")
    where = place(os.environ)
    fix = where.fix if where else None
    return Check(
        "capability", False, "torchtop is root without CAP_SYS_PTRACE: only root's own jobs are open to it", fix
    )


def _seccomp() -> Check:
    own = proc.credentials(os.getpid())
    name = _SECCOMP.get(own.seccomp or 0, "unknown")
    privileges = "; no new privileges, so sudo does not help" if own.no_new_privileges else ""
    refused = ptrace_is_forbidden()
    if refused is not None:
        where = place(os.environ)
        fix = where.fix if where else COOPERATE
        return Check("seccomp", False, f"the ptrace call is refused to torchtop ({refused}); seccomp: {name}", fix)
    return Check("seccomp", True, f"the ptrace call is open to torchtop (seccomp: {name}{privileges})")


def _container() -> Check:
    where = place(os.environ)
    nested = len(proc.status(os.getpid()).pids) > 1
    if where is not None:
        return Check(
            "container", None, f"torchtop runs in {where.name}; if a job cannot be seen or attached to", where.fix
        )
    if nested or proc.PROC.joinpath("1/comm").read_text().strip() not in ("systemd", "init"):
        return Check("container", None, "torchtop may be in a container: processes outside of it cannot be seen")
    return Check("container", True, "torchtop is in no container: it sees all processes of this machine")
