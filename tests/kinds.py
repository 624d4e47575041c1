"""What is true of each kind of job in tests/targets/kinds.py, as far as its truth file does not say.

Read by the tests of torchtop and by those of the programs themselves.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

TRAINING = ("data", "forward", "backward", "optimizer")
NO_LOADER = ("forward", "backward", "optimizer")
NO_OPTIMIZER = ("data", "forward", "backward")


class Kind(NamedTuple):
    """phases: those that the program has beside `other`; compared: whether their lengths are.

    samples: whether the program says how many, of which torchtop must say as much, and null where it does not.
    every: arms one step in so many; None: as the budget has it.
    control: steps of the run that is not watched: some of them must be watched in the other, which begins 0.5 s after
        its first step, and 1.2 s after it where torchtop has to find out first that no optimizer steps.
    slack_s: by which a phase may be off if that is more than 5 %; more in steps that our hooks disturb more.
    edges: steps by which the count may differ: those under way at the edges of the window.
    note: why something is not compared, or not as closely.
    """

    phases: tuple[str, ...] = TRAINING
    compared: bool = True
    samples: bool = True
    mode: str = "training"
    every: int | None = None
    control: int = 75
    slack_s: float = 1e-3
    edges: int = 1
    note: str = ""


def inference(*phases: str, **rest: Any) -> Kind:
    return Kind(phases, mode="inference", **rest)


MANY_PASSES = (
    "many short passes a step: what it costs to free our hooks with each graph is not told apart (5 us a call)"
)
# One step in a few differs: a mean over all of them is compared with one over all of them.
UNEVEN = Kind(every=1)
AT_ONCE = inference(
    compared=False, control=350, edges=4, note="several steps at once: their phases do not add up to time"
)
KINDS = {
    "mlp": Kind(),
    "transformer": Kind(control=50),
    "convbn": Kind(),
    "rnn": Kind(),
    "tiny": Kind(slack_s=1.5e-3, note="200 layers of 50 us: what a hook costs is taken off by its mean"),
    "accumulate": Kind(control=30),
    "accumulate-40": Kind(slack_s=2.5e-3, note=MANY_PASSES),
    "checkpointed": Kind(),
    "checkpointed-reentrant": Kind(),
    "autocast": Kind(control=150),
    "shared": Kind(),
    "dictout": Kind(),
    "inplace": Kind(),
    "wrapped": Kind(),
    "halves": Kind(),
    "finetune": Kind(),
    "validated": UNEVEN,
    "saved": UNEVEN,
    "in-thread": Kind(),
    "slices": Kind(NO_LOADER),
    "stream": Kind(),
    "stream-workers": Kind(),
    "uneven": UNEVEN,
    "shortened": UNEVEN,
    "gan": Kind(),
    "wgan": Kind(slack_s=1.5e-3, note=MANY_PASSES),
    "lbfgs": Kind(),
    "by-hand": Kind(NO_OPTIMIZER, control=150),
    "pure-tensors": Kind(
        ("backward",), samples=False, control=150, note="no module is called: nothing says what a batch is"
    ),
    "functional": Kind(NO_OPTIMIZER, control=150),
    "penalty": Kind(control=50),
    "two-losses": Kind(),
    "averaged": Kind(),
    "renewed": Kind(),
    "in-backward": Kind(),
    "reinforce": Kind(
        NO_LOADER,
        samples=False,
        every=4,
        slack_s=2e-3,
        note="many calls of one state each: none of them is a batch, and hooks in each, as in " + MANY_PASSES,
    ),
    "inference": inference("data", "forward", control=300),
    "tiny-inference": inference("data", "forward", control=2000),
    "diffusion": inference("forward", control=250, note="samples are rows that the root was given, in each call"),
    "thread-pool": AT_ONCE,
    "thread-per-request": AT_ONCE,
}


def ran(path: Path) -> list[str]:
    """What a run computed, by its step log: equal as far as two runs have gone if nothing changed it.

    Steps of a server end in any order, so there it is the answer to each request.
    """
    steps = [json.loads(line) for line in Path(f"{path}.steps").read_text().splitlines()]
    if steps and "request" in steps[0]:
        return [step["answer"] for step in sorted(steps, key=lambda step: int(step["request"]))]
    return [step["losses"] for step in steps]
