"""First code to run after the connector: makes the probe's modules out of the bundle and starts the agent.

Runs as plain globals of one `exec` with `bundle`, `listener`, `client`, `path` and `tokens` given by the connector,
on its raw thread. `bundle` is (this, ((module name, (piece, ...)), ...)); a piece is a code object or source text.
"""

import sys
import time
import types

_LEAVING_S = 12.0  # s that an agent which is just leaving may take at most, and somewhat more


def _load(modules):
    """Create each module and run its pieces. Source is compiled in short pieces: compile() holds the GIL, and whoever
    wants it has it right after each piece."""
    for name, pieces in modules:
        module = sys.modules[name] if name == "_torchtop" else types.ModuleType(name)
        module.__package__ = name if name in ("_torchtop", "_torchtop.watch") else name.rpartition(".")[0]
        module.__path__ = []
        sys.modules[name] = module
        for piece in pieces:
            if isinstance(piece, str):
                piece = compile(piece, "<" + name + ">", "exec", 0x1000000, True)  # future annotations
            exec(piece, module.__dict__)
        parent, _, leaf = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], leaf, module)


def _unload(modules):
    """Nothing of ours stays. The first name goes last: another attach may put its probe in as soon as it is gone."""
    for name, _ in reversed(modules):
        sys.modules.pop(name, None)


def _close_socket():
    import os

    listener.close()
    try:
        os.unlink(path)
        os.rmdir(os.path.dirname(path))
    except OSError:
        pass  # another agent of this user has its socket there too


def _bye(error):
    """Why there will be no probe: the job's own stderr is not ours to write to."""
    import json

    reason = f"{type(error).__name__}: {error}"
    return json.dumps({"v": 1, "type": "bye", "error": reason, "left_behind": []}).encode() + b"\n"


def _place():
    """Who serves the client: "us", with the name `_torchtop` claimed; the agent that is "there"; or "nobody".

    One agent in a process, however many attach at once: setdefault lets one of them be the first.
    """
    claim = types.ModuleType("_torchtop")
    given_up = time.monotonic() + _LEAVING_S
    while time.monotonic() < given_up:
        if sys.modules.setdefault("_torchtop", claim) is claim:
            return "us"
        door = getattr(sys.modules.get("_torchtop.agent"), "door", None)
        if door is not None and door.hand_over(client):
            return "there"
        time.sleep(0.005)
    return "nobody"


last, farewell = client, b""
place = _place()
if place == "us":
    try:
        _load(bundle[1])
        last, farewell = sys.modules["_torchtop.agent"].serve(listener, client, tokens)
    except BaseException as error:
        farewell = _bye(error)
    _unload(bundle[1])
elif place == "nobody":
    farewell = _bye(RuntimeError("another torchtop is attached, but its probe does not answer: try again"))
# Only then is the last client told so: it may be back at once.
_close_socket()
if place != "there":
    try:
        last.settimeout(1)
        last.sendall(farewell)
        # A DataLoader worker forked meanwhile holds the socket too: closing it here alone would say nothing to the peer.
        last.shutdown(2)
    except OSError:
        pass  # nobody is there to be told
    finally:
        last.close()
