"""`import torchtop.listen` in a training script lets torchtop attach to it later without ptrace.

One raw thread waits until torch has been imported and then offers a socket to this user and root, again after each
monitor that has gone. `torchtop run` does the same without touching the script, by loading this file from its path: so
it is standard library and Python 3.9, and imports nothing of ours. TORCHTOP_DISABLE=1 turns it off. A forked child
does not listen; one that runs a new interpreter does if it comes here again.
"""

from __future__ import annotations

import _thread
import os
import sys
import time

TYPE_CHECKING = False  # importing typing for it costs more than all the rest
if TYPE_CHECKING:
    from typing import Any

_DISABLE = "TORCHTOP_DISABLE"
_MARK = "_torchtop_listen"  # in sys.modules of a process that listens, whichever way it came here
_SHORTEST_S, _LONGEST_S, _GROWTH = 0.05, 1.0, 1.2  # s between two looks for torch
_RETRY_S = 1.0  # s after which folders that all failed are tried again
_RENEW_S = 1e6  # s that one socket stands: poll(2) cannot wait for more than 24 days
_LONGEST_PATH = 107  # bytes of sun_path less the NUL (unix(7))
_FOLDERS = ("/tmp", "/dev/shm")
_PR_SET_PTRACER, _PR_SET_PTRACER_ANY = 0x59616D61, -1  # prctl(2)


def start() -> None:
    """Start listening, once in a process. Returns at once; never raises and never prints."""
    if _MARK in sys.modules or os.environ.get(_DISABLE) == "1" or not _in_main_interpreter():
        return
    sys.modules[_MARK] = type(sys)(_MARK)
    try:
        _thread.start_new_thread(_listen, ())
    except RuntimeError:
        pass  # no more threads for this user: the job has worse troubles than not being watched


def _in_main_interpreter() -> bool:
    """Whether this is no subinterpreter: ending one that has a thread of ours is a fatal error (3.12)."""
    for name in ("_interpreters", "_xxsubinterpreters"):  # 3.13, before
        try:
            interpreters = __import__(name)
        except ImportError:
            continue
        return bool(interpreters.get_current() == interpreters.get_main())
    return True


def _listen() -> None:
    try:
        _block_signals()
        _await_torch()
        _allow_ptrace()
        _serve()
    except BaseException:  # noqa: BLE001, S110  # what leaves a raw thread is printed on the job's stderr
        pass


def _block_signals() -> None:
    """Keep signals that the main thread has blocked, to wait for them, from being delivered here instead.

    Not those that the thread itself would cause: a fault that is blocked kills without a word from faulthandler.
    """
    import _signal  # type: ignore[import-not-found]  # builtin; `signal` would load enum into every Python

    faults = {_signal.SIGSEGV, _signal.SIGBUS, _signal.SIGFPE, _signal.SIGILL}
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals() - faults)


def _await_torch() -> None:
    """Sleep until torch is there and its import has ended.

    And threading's, which torch needs, too: whoever imports it first is the main thread to it, and is waited for at
    the end of the program. That must not be us.
    """
    pause_s = _SHORTEST_S
    while not (_imported("torch") and _imported("threading")):
        time.sleep(pause_s)
        pause_s = min(_LONGEST_S, pause_s * _GROWTH)


def _imported(name: str) -> bool:
    module = sys.modules.get(name)
    return module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False)


def _allow_ptrace() -> None:
    """Let any process of this user trace this one, where Yama's scope 1 would keep that for ancestors."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(_PR_SET_PTRACER_ANY), *[ctypes.c_ulong(0)] * 3)
    except (ImportError, AttributeError, OSError):
        pass  # the socket is enough; this only helps py-spy


def _serve() -> None:
    """Offer one socket after the other, each with a secret of its own, for as long as the process lives."""
    import atexit

    probe = os.path.join(os.path.dirname(os.path.abspath(__file__)), "probe")
    wire = _namespace(os.path.join(probe, "wire.py"))
    go = _namespace(os.path.join(probe, "connector.py"))["go"]
    pid, half, folders = os.getpid(), wire["TOKEN"], _folders(wire)
    file = ""

    def remove() -> None:
        if os.getpid() != pid:
            return  # a forked child that ends: the socket is its parent's
        for folder in folders:
            try:
                os.unlink(folder + "/" + file)
                os.rmdir(folder)
            except OSError:
                pass  # not in this one, or others have theirs there

    atexit.register(remove)
    while True:
        secret = os.urandom(half).hex()
        file = wire["SOCKET"].format(pid=pid, secret=secret)
        ours, theirs = (secret[:half] + "\n").encode(), secret[half:].encode()
        if go(time.monotonic() + _RENEW_S, folders, file, ours, theirs) is None:
            time.sleep(_RETRY_S)


def _namespace(path: str) -> dict[str, Any]:
    """Names that the file at `path` defines, without making a module of it."""
    with open(path, encoding="utf-8") as file:
        source = file.read()
    names: dict[str, Any] = {"__name__": _MARK}
    exec(compile(source, path, "exec", dont_inherit=True), names)  # noqa: S102
    return names


def _folders(wire: dict[str, Any]) -> tuple[str, ...]:
    """Folders to try, as the monitor works them out for this process (torchtop/attach/rendezvous.py)."""
    own = ""
    try:
        # As the process was started: what os.environ says by now the monitor cannot see.
        with open("/proc/self/environ", "rb") as file:
            for pair in file.read().split(b"\0"):
                if pair.startswith(b"TMPDIR="):
                    own = pair[len(b"TMPDIR=") :].decode(errors="replace")
    except OSError:
        pass
    user = os.geteuid()
    leaf = wire["DIRECTORY"].format(uid=user)
    candidates = ([own] if own.startswith("/") else []) + [*_FOLDERS, f"/run/user/{user}"]
    longest = wire["SOCKET"].format(pid=1 << 22, secret="0" * 2 * wire["TOKEN"])
    room = _LONGEST_PATH - len("/" + leaf + "/") - len(longest)
    return tuple(f"{folder.rstrip('/')}/{leaf}" for folder in dict.fromkeys(candidates) if len(folder) <= room)


start()
