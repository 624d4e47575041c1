"""First code to run after the connector: makes the probe's modules out of the bundle and starts the agent.

Runs as plain globals of one `exec` with `bundle`, `listener`, `client`, `path` and `tokens` given by the connector,
on its raw thread. `bundle` is (this, ((module name, (piece, ...)), ...)); a piece is a code object or source text.
"""

import sys
import time
import types


def _load(modules):
    """Create each module and run its pieces. Source is compiled in short pieces: compile() holds the GIL, and whoever
    wants it has it right after each piece."""
    for name, pieces in modules:
        module = types.ModuleType(name)
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


def _leave(modules):
    """Nothing of ours stays, and only then the last client is told so: it may be back at once."""
    import os

    for name, _ in modules:
        sys.modules.pop(name, None)
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


def _others_gone():
    """Wait for an agent that is just leaving; False when one stays."""
    for _ in range(400):
        if "_torchtop" not in sys.modules:
            return True
        time.sleep(0.005)
    return False


last, farewell = client, b""
if _others_gone():
    try:
        _load(bundle[1])
        last, farewell = sys.modules["_torchtop.agent"].serve(listener, client, tokens)
    except BaseException as error:
        farewell = _bye(error)
    _leave(bundle[1])
else:
    farewell = _bye(RuntimeError("another torchtop is attached, but its probe does not answer: try again"))
try:
    last.settimeout(1)
    last.sendall(farewell)
    # A DataLoader worker forked meanwhile holds the socket too: closing it here alone would say nothing to the peer.
    last.shutdown(2)
except OSError:
    pass  # nobody is there to be told
finally:
    last.close()
