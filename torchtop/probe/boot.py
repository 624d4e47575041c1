"""First code to run after the connector: makes the probe's modules out of the bundle and starts the agent.

Runs as plain globals of one `exec` with `bundle`, `listener`, `client` and `tokens` given by the connector,
on its raw thread. `bundle` is (this, ((module name, (piece, ...)), ...)); a piece is a code object or source text.
"""

import sys
import time
import types


def _load(modules):
    """Create each module and run its pieces; source is compiled here in short pieces, because compile holds the GIL."""
    for name, pieces in modules:
        module = types.ModuleType(name)
        module.__package__ = name if name in ("_torchtop", "_torchtop.watch") else name.rpartition(".")[0]
        module.__path__ = []
        sys.modules[name] = module
        for piece in pieces:
            if isinstance(piece, str):
                piece = compile(piece, "<" + name + ">", "exec", 0x1000000, True)  # future annotations
                time.sleep(0.0005)
            exec(piece, module.__dict__)
        parent, _, leaf = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], leaf, module)


def _forget(modules):
    for name, _ in modules:
        sys.modules.pop(name, None)


def _say(error):
    """Tell the monitor why there will be no probe: the job's own stderr is not ours to write to."""
    import json

    try:
        reason = f"{type(error).__name__}: {error}"
        client.sendall(json.dumps({"v": 1, "type": "bye", "error": reason}).encode() + b"\n")  # noqa: F821
    except OSError:
        pass  # nobody is there to be told


if "_torchtop" not in sys.modules:
    try:
        _load(bundle[1])  # noqa: F821
        sys.modules["_torchtop.agent"].serve(listener, client, tokens)  # noqa: F821
    except BaseException as error:
        _say(error)
    finally:
        _forget(bundle[1])  # noqa: F821
