"""Names, version and limits of what travels between probe and monitor: one JSON object a line.

The only probe file that the monitor imports. Non-finite numbers travel as null beside a flag.

Handshake, before any JSON: the client sends `TOKEN\\n` (first half of the secret in the socket's name), the target
answers `TOKEN PYTHON DETAIL STATE\\n` (second half, "3.11.7"). STATE is one of
- `code`: no agent runs; DETAIL is the pyc magic in hex. The client sends the length of the bundle in 8 hex digits, then
  the bundle. An agent that came in meanwhile takes the client over. JSON follows.
- `live`: an agent runs; DETAIL is the version that it speaks. JSON follows.
- `full`: as many watch as are served; DETAIL is `PID:UID,...` of them as the target sees them. It closes the connection.

Several clients: an `arm` or `budget` is its sender's wish and goes with the sender. Of all wishes the most careful holds:
the largest N of those who fixed one, else the smallest share of those who named one, else the default. One client at a
time may hold the `lease`, the right to change the job; `want` asks for it or gives it back, and each request is answered
with `held` and the holder's `pid` and `uid`. `look` with `what: "weights"` asks for one scan of the parameters; it is
answered with `weights`, and again when more is known of gradients.
"""

from __future__ import annotations

VERSION = 1
LINE_LIMIT = 1 << 20  # bytes of one message of the probe
REQUEST_LIMIT = 1 << 14  # bytes of one message of the monitor: parsing holds the target's GIL
MODULE_LIMIT = 50_000  # modules of one process that are told apart
SITE_LIMIT = 10_000  # lines of one process that modules were called from, or their callers were
SITE_FRAMES = 6  # frames of one call site
CLIENTS = 4  # served at once by one agent
PING_S = 0.5  # s between pings of the monitor
SILENCE_S = 3.0  # s without a ping after which a client is gone
DIRECTORY = "torchtop-{uid}"  # mode 0700, in the first writable of the rendezvous folders
SOCKET = "{pid}-{secret}.sock"  # mode 0600; pid as the target itself sees it
TOKEN = 16  # hex digits in each half of the secret

# probe -> monitor
HELLO, FACTS, MODULES, SITES, STEP, LAYERS, PAUSES, ALLOCATOR, MEMORY, WEIGHTS, HEALTH, BYE = (
    "hello",
    "facts",
    "modules",
    "sites",
    "step",
    "layers",
    "pauses",
    "allocator",
    "memory",
    "weights",
    "health",
    "bye",
)
# monitor -> probe
ARM, BUDGET, LOOK, DETACH, PING = "arm", "budget", "look", "detach", "ping"
# both ways
LEASE = "lease"

# Columns of a row in a `step` message: seconds are of CLOCK_MONOTONIC, `data_s` and so on null when not seen.
STEP_COLUMNS = (
    "t_end",
    "step_s",
    "flags",
    "micro_steps",
    "samples",
    "data_s",
    "backward_s",
    "optimizer_s",
    "backward_wait_s",
)

# Flags of a step.
ARMED, FIRST_OF_EPOCH, COMPILED, VALIDATION, CHECKPOINT, SKIPPED, IDLE = 1, 2, 4, 8, 16, 32, 64
FLAG_NAMES = {
    FIRST_OF_EPOCH: "first-of-epoch",
    COMPILED: "compile",
    VALIDATION: "validation",
    CHECKPOINT: "checkpoint",
    SKIPPED: "skipped",
    IDLE: "idle",
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
    GRAD_BEGIN,
    GRAD_END,
) = range(14)


def mark(kind: int, index: int = 0, thread: int = 0) -> int:
    """Pack one mark; `unmark` takes it apart."""
    return index << 8 | thread << 4 | kind


def unmark(code: int) -> tuple[int, int, int]:
    """(kind, module index, thread) of a packed mark."""
    return code & 15, code >> 8, code >> 4 & 15
