"""Names, version and limits of what travels between probe and monitor: one JSON object a line.

The only probe file that the monitor imports. Non-finite numbers travel as null beside a flag.

Handshake, before any JSON: the client sends `TOKEN\\n` (first half of the secret in the socket's name), the target
answers `TOKEN PYTHON MAGIC STATE\\n` (second half, "3.11.7", pyc magic in hex, `code` or `live`). On `code` the client
sends the length of the bundle in 8 hex digits, then the bundle; on `live` an agent runs already. JSON follows.
"""

from __future__ import annotations

VERSION = 1
LINE_LIMIT = 1 << 20  # bytes of one message
CLIENTS = 4  # served at once by one agent
PING_S = 0.5  # s between pings of the monitor
SILENCE_S = 3.0  # s without a ping after which a client is gone
DIRECTORY = "torchtop-{uid}"  # mode 0700, in the first writable of the rendezvous folders
SOCKET = "{pid}-{secret}.sock"  # mode 0600; pid as the target itself sees it
TOKEN = 16  # hex digits in each half of the secret

# probe -> monitor
HELLO, FACTS, MODULES, STEP, LAYERS, MEMORY, HEALTH, BYE = (
    "hello",
    "facts",
    "modules",
    "step",
    "layers",
    "memory",
    "health",
    "bye",
)
# monitor -> probe
ARM, BUDGET, LOOK, DETACH, PING = "arm", "budget", "look", "detach", "ping"

# Columns of a row in a `step` message: seconds are of CLOCK_MONOTONIC, `data_s` and so on null when not seen.
STEP_COLUMNS = ("t_end", "step_s", "flags", "micro_steps", "samples", "data_s", "backward_s", "optimizer_s")

# Flags of a step.
ARMED, FIRST_OF_EPOCH, COMPILED, VALIDATION, CHECKPOINT, SKIPPED = 1, 2, 4, 8, 16, 32
FLAG_NAMES = {
    FIRST_OF_EPOCH: "first-of-epoch",
    COMPILED: "compile",
    VALIDATION: "validation",
    CHECKPOINT: "checkpoint",
    SKIPPED: "skipped",
}

# Kinds of a mark in an armed step. A mark is `index << 8 | thread << 4 | kind`: index is the module's (modules
# message), or 0; thread is 0 for the training thread, 1.. for others in order of appearance.
(
    FORWARD_BEGIN,
    FORWARD_END,
    RECOMPUTE_BEGIN,
    RECOMPUTE_END,
    BACKWARD_IN,
    BACKWARD_OUT,
    DATA_BEGIN,
    DATA_END,
    BACKWARD_BEGIN,
    BACKWARD_END,
    OPTIMIZER_BEGIN,
    OPTIMIZER_END,
) = range(12)


def mark(kind: int, index: int = 0, thread: int = 0) -> int:
    """Pack one mark; `unmark` takes it apart."""
    return index << 8 | thread << 4 | kind


def unmark(code: int) -> tuple[int, int, int]:
    """(kind, module index, thread) of a packed mark."""
    return code & 15, code >> 8, code >> 4 & 15
