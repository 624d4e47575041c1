"""Whether a process may be attached to now, and if not, why and what helps."""

from __future__ import annotations

import os
import pwd
import time

from torchtop.attach import proc
from torchtop.attach.check import CANDIDATES, NO_TARGET, NOT_NOW, Check, refuse
from torchtop.attach.surroundings import COOPERATE, may_ptrace_all, place, ptrace_is_forbidden, sudo, yama_scope
from torchtop.errors import NoTarget

_CAPABILITIES = {12: "NET_ADMIN", 19: "SYS_PTRACE", 21: "SYS_ADMIN", 24: "SYS_RESOURCE"}  # the telling ones


def check_state(pid: int, patience_s: float = 2.0) -> proc.Status:
    """Refuse a target that must not be touched now; raise `NoTarget` when there is none.

    Waits up to `patience_s` for it to leave uninterruptible sleep: a process that starts is in it again and again.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            status = proc.status(pid)
        except (FileNotFoundError, ProcessLookupError):
            raise _no_process(pid).error() from None
        if status.state == "D" and not status.tracer_pid and time.monotonic() < deadline:
            time.sleep(0.01)
            continue
        refuse(state(pid, status), tracer(pid, status))
        return status


def check_alive(pid: int) -> None:
    """Raise `NoTarget` once the process has ended."""
    try:
        if proc.status(pid).state not in "ZX":
            return
    except (FileNotFoundError, ProcessLookupError):
        pass
    raise NoTarget(f"process {pid} ended while it was being attached to")


def permission_sentence(pid: int, error: OSError | None = None) -> str:
    """Why ptrace was refused, as far as it can be told, and the command that helps."""
    return str(denied(pid, error).error())


def denied(pid: int, error: OSError | None = None) -> Check:
    """The rule that keeps us from `pid`, which the kernel has just refused to us."""
    try:
        found = next((check for check in permissions(pid) if check.blocks), None)
    except (OSError, KeyError):
        found = None
    return found or _unexplained(pid, error)


def state_checks(pid: int) -> list[Check]:
    """What stands against touching `pid` at this moment, permitted or not; just one check when it does not exist."""
    try:
        status = proc.status(pid)
    except (FileNotFoundError, ProcessLookupError):
        return [_no_process(pid)]
    return [state(pid, status), tracer(pid, status)]


def state(pid: int, status: proc.Status) -> Check:
    """Its main thread runs or waits as usual."""
    refused = {
        "T": Check("state", False, f"process {pid} cannot be attached to: it is stopped", f"kill -CONT {pid}", NOT_NOW),
        "t": Check("state", False, f"process {pid} cannot be attached to, a debugger holds it stopped", None, NOT_NOW),
        "Z": Check(
            "state", False, f"process {pid} is no more: it has ended and waits for its parent (zombie)", None, NO_TARGET
        ),
        "X": Check("state", False, f"process {pid} is no more: it has ended", None, NO_TARGET),
        "D": Check(
            "state",
            False,
            f"the main thread of process {pid} is in uninterruptible sleep (disk or driver), where it cannot be attached "
            "to; try again when it has left it",
            None,
            NOT_NOW,
        ),
    }
    if status.state == "t" and status.tracer_pid:
        return Check("state", True, f"process {pid} is stopped by its debugger")
    return refused.get(status.state) or Check("state", True, f"process {pid} is there and alive")


def tracer(pid: int, status: proc.Status) -> Check:
    """Nobody else traces it: the kernel allows one tracer."""
    if not status.tracer_pid:
        return Check("tracer", True, "no debugger or profiler is attached")
    try:
        name = f" ({proc.status(status.tracer_pid).name})"
    except OSError:
        name = ""
    found = (
        f"process {pid} is already traced by process {status.tracer_pid}{name}, and only one may; "
        "end that debugger or profiler first"
    )
    # A debugger that started the program may take it along when it is ended: no command line for that.
    fix = None if status.tracer_pid == status.ppid else f"kill {status.tracer_pid}"
    return Check("tracer", False, found, fix, NOT_NOW)


def permissions(pid: int) -> list[Check]:
    """Whether the kernel lets us trace `pid`, and which of its rules speak against it (ptrace(2), "access mode checking").

    The question itself is put to the kernel by opening /proc/PID/mem, which needs the same right and touches nothing.
    The rows only explain the answer. OSError when the process is gone.
    """
    refused = _refused(pid)
    rows = [*_owner_rules(pid, refused is not None), _yama(pid, refused is not None), _call()]
    if refused is not None and not any(row.blocks for row in rows):
        rows.append(_unexplained(pid, refused))
    return rows


def _refused(pid: int) -> OSError | None:
    try:
        os.close(os.open(proc.PROC / str(pid) / "mem", os.O_RDONLY | os.O_CLOEXEC))
    except PermissionError as error:
        return error
    return None


def _owner_rules(pid: int, refused: bool) -> list[Check]:
    """Rules that CAP_SYS_PTRACE overrides, each with the fact, and blocking where it is why we were refused."""
    target, own = proc.credentials(pid), proc.credentials(os.getpid())
    stranger = set(target.uids[:3]) != {own.uids[1]}
    group = set(target.gids[:3]) != {own.gids[1]}
    hidden = not stranger and target.uids[1] != 0 and _hidden_owner(pid) == 0
    lacking = target.permitted & ~own.effective
    namespace = proc.namespace(pid, "user")
    foreign = namespace is not None and namespace != proc.namespace("self", "user")
    fix = _more_rights(pid)

    def row(name: str, against: bool, bad: str, good: str) -> Check:
        if not against:
            return Check(name, True, good)
        if not refused:
            return Check(name, True, f"{bad}, which does not matter to torchtop as it runs now")
        return Check(name, False, bad, fix, NOT_NOW)

    user = _user(target.uids[1])
    if stranger:
        found = f"process {pid} belongs to another user ({user})"
        return [row("user", True, found, "")]
    rows = [
        row("user", False, "", f"the job runs as {user}, as torchtop does"),
        row("group", group, f"process {pid} runs with another group (gid {target.gids[1]})", "with the same group"),
        row(
            "dumpable",
            hidden,
            f"process {pid} is marked non-dumpable (a setuid program, or prctl PR_SET_DUMPABLE)",
            "the job is not marked non-dumpable, as far as /proc shows it",
        ),
        row(
            "capabilities",
            bool(lacking),
            f"process {pid} has capabilities that torchtop lacks ({_capability_names(lacking)})",
            "the job has no capability that torchtop lacks",
        ),
    ]
    if namespace is None:
        return [*rows, Check("user namespace", None, "not to be seen from here")]
    good = "the job is in the same user namespace"
    return [*rows, row("user namespace", foreign, f"process {pid} is in another user namespace", good)]


def _hidden_owner(pid: int) -> int:
    """Owner of what is in /proc/PID: root for a non-dumpable process. (Of /proc/PID itself it always is the user.)"""
    return os.stat(proc.PROC / str(pid) / "status").st_uid


def _yama(pid: int, refused: bool) -> Check:
    scope = yama_scope()
    if scope in (None, "0"):
        return Check("yama", True, "Yama restricts nothing here")
    if not refused:
        return Check("yama", True, f"ptrace_scope is {scope}, and lets torchtop attach to this process")
    if may_ptrace_all() and scope != "3":
        return Check("yama", True, f"ptrace_scope is {scope}, which leaves those with CAP_SYS_PTRACE alone")
    if scope == "3":
        found = "this kernel forbids all attaching until it is rebooted (ptrace_scope 3); next time start the job with"
        return Check("yama", False, found, COOPERATE, NOT_NOW)
    found = f"attaching to a running process is kept for root here (ptrace_scope {scope})"
    return Check("yama", False, found, _more_rights(pid), NOT_NOW)


def _call() -> Check:
    why = ptrace_is_forbidden()
    if why is None:
        return Check("ptrace", True, "the ptrace call is open to torchtop")
    where = place(os.environ)
    found = f"the ptrace call is refused to torchtop ({why}), by a seccomp filter of its container as a rule"
    return Check("ptrace", False, found, where.fix if where else COOPERATE, NOT_NOW)


def _unexplained(pid: int, error: OSError | None) -> Check:
    why = error.strerror if error is not None and error.strerror else "Operation not permitted"
    found = (
        f"process {pid} may not be attached to ({why}); no rule that torchtop knows explains it (AppArmor, SELinux?)"
    )
    return Check("security module", False, found, _more_rights(pid), NOT_NOW)


def _more_rights(pid: int) -> str:
    """The line with which we would be allowed more than now."""
    if os.geteuid() != 0 and not proc.credentials(os.getpid()).no_new_privileges:
        return sudo(pid)
    where = place(os.environ)
    if where is None or where.name == "Slurm":  # root without CAP_SYS_PTRACE is in some container, or a sandbox
        return "docker run --cap-add SYS_PTRACE IMAGE CMD..." if os.geteuid() == 0 else COOPERATE
    return where.fix


def _no_process(pid: int) -> Check:
    return Check("process", False, f"there is no process {pid}: {CANDIDATES}", None, NO_TARGET)


def _user(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name}, uid {uid}"
    except (KeyError, OverflowError):
        return f"uid {uid}"


def _capability_names(bits: int) -> str:
    numbers = [number for number in range(bits.bit_length()) if bits >> number & 1]
    named = [_CAPABILITIES[number] for number in numbers if number in _CAPABILITIES]
    return ", ".join(named) or f"bits {', '.join(map(str, numbers))}"
