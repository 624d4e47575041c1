"""Which phase of a step a stack belongs to.

Torch's own frames on it say so, the outermost one that decides; without any, the time is nobody's: `other`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from torchtop.advisor.frames import Spot, is_standard, is_torch, is_users, spot
from torchtop.seen import StackCount
from torchtop.snapshot import Frame

_WAITS = re.compile(r"(?:^|/)torch/(?:cuda/|accelerator/|_tensor|_tensor_str)(?:\w*\.py)?$")

# Nothing of theirs can be differentiated by torch: what they do between forward and backward is no loss.
_NO_LOSS = re.compile(
    r"-packages/(?:numpy|scipy|sklearn|pandas|polars|pyarrow|matplotlib|seaborn|plotly|PIL|cv2|skimage|imageio|nltk|sacrebleu"
    r"|rouge_score|evaluate|datasets|wandb|mlflow|tensorboard|tensorboardX|comet_ml|neptune|aim|clearml|requests|urllib3"
    r"|boto3|botocore|h5py|zarr|yaml|orjson|tqdm|rich|loguru|psutil|networkx)/"
)
# Functions that say how the training goes, by what such ones are called; `log` alone may be of a probability.
_REPORTS = re.compile(
    r"(?:^|[._])(?:metrics?|accurac\w*|reports?|plot\w*|figures?|visuali[sz]e\w*|dump\w*|write\w*|save\w*|print\w*|monitor\w*"
    r"|debug\w*|bleu|rouge|wer|confusion\w*|f1\w*|log_(?:metrics?|steps?|batch|stats?|scalars?|images?|histograms?|grads?))"
    r"(?:$|[._])"
)
COMPUTES = ("forward", "backward", "optimizer")


class Told(NamedTuple):
    """A stack, its phase, and the place of the frame that says so (of `frames`, innermost first)."""

    stack: StackCount
    phase: str
    marker: int


def tell(stack: StackCount) -> Told:
    """Walk inwards to the first frame that decides. A closure that the optimizer calls is not the optimizer."""
    phase, marker, in_torchs_step = "other", len(stack.frames), False
    for at in range(len(stack.frames) - 1, -1, -1):
        frame = stack.frames[at]
        if is_torch(frame.file):
            kind = kind_of(frame)
            if kind is not None and kind != "optimizer":
                return Told(stack, kind, at)
            if kind == "optimizer" and phase != "optimizer":
                phase, marker = "optimizer", at
            in_torchs_step = phase == "optimizer" and (in_torchs_step or _is_a_step(frame))
        elif phase == "optimizer" and (
            "closure" in frame.function.lower() or (in_torchs_step and not is_standard(frame.file))
        ):
            phase, marker, in_torchs_step = "other", len(stack.frames), False
        elif "/safetensors/" in frame.file and "save" in frame.function:
            return Told(stack, "save", at)
    return Told(stack, phase, marker)


def _is_a_step(frame: Frame) -> bool:
    return "torch/optim/" in frame.file and not frame.file.endswith("/optimizer.py")


def kind_of(frame: Frame) -> str | None:
    """What a frame of torch's says of everything that it called; None for nothing."""
    name = frame.function.rpartition(".")[2]
    for file, names, kind in _KINDS:
        if frame.file.endswith(file) and (names is None or name in names):
            return kind
    if "/torchinductor_" in frame.file or frame.file.startswith("<eval_with_key>"):
        return "forward"
    return "save" if "torch/distributed/checkpoint/" in frame.file and "save" in name else None


# (end of the file's path, last parts of the function's name or None for any, phase)
_KINDS: tuple[tuple[str, frozenset[str] | None, str], ...] = (
    ("torch/utils/data/dataloader.py", None, "data"),
    ("torch/utils/data/_utils/fetch.py", None, "data"),
    ("torch/nn/modules/module.py", frozenset(("_call_impl", "_wrapped_call_impl", "_slow_forward")), "forward"),
    ("torch/nn/modules/module.py", frozenset(("zero_grad",)), "zero_grad"),
    ("torch/_tensor.py", frozenset(("backward",)), "backward"),
    ("torch/autograd/__init__.py", frozenset(("backward", "grad")), "backward"),
    ("torch/autograd/graph.py", frozenset(("_engine_run_backward",)), "backward"),
    ("torch/optim/optimizer.py", frozenset(("zero_grad",)), "zero_grad"),
    ("torch/optim/optimizer.py", frozenset(("wrapper", "_use_grad")), "optimizer"),
    ("torch/serialization.py", frozenset(("save", "_save", "_legacy_save")), "save"),
)


def tell_worker(stack: StackCount) -> Told:
    """Loading is what the dataset is asked for; waiting for an index, and handing over, is not."""
    for at, frame in enumerate(stack.frames):
        if frame.file.endswith("torch/utils/data/_utils/fetch.py"):
            return Told(stack, "data", at)
    return Told(stack, "other", len(stack.frames))


def may_wait(one: Told) -> bool:
    """Whether the thread is in a C function that the user's code called, or in one of torch's that waits: the model's
    forward only queues work on a device, so whoever is met in one place again and again waits there."""
    if one.phase not in ("other", "forward") or not one.stack.frames:
        return False
    inner = one.stack.frames[0]
    return bool(_WAITS.search(inner.file)) or is_users(inner)


class Between:
    """Tells what runs after a forward pass and before the backward pass that follows it, by the order of lines in the
    function in which two stacks part."""

    def __init__(self, told: Sequence[Told]) -> None:
        self._passes = list(
            dict.fromkeys(
                (_path(one.stack.frames[one.marker + 1 :]), one.phase)
                for one in told
                if one.phase in ("forward", "backward")
            )
        )

    def holds(self, stack: StackCount) -> bool:
        return self.below(stack) is not None

    def below(self, stack: StackCount) -> tuple[Spot, ...] | None:
        """What was called from the line at which it parts from the forward pass, outermost first; None where it does not
        lie between."""
        path = _path(stack.frames)
        last = following = None
        for one in self._passes:
            order = _order(one[0], path)
            if order < 0 and (last is None or _order(last[0], one[0]) < 0):
                last = one
            elif order > 0 and (following is None or _order(one[0], following[0]) < 0):
                following = one
        if last is None or following is None or (last[1], following[1]) != ("forward", "backward"):
            return None
        parts = next(at for at, (mine, its) in enumerate(zip(last[0], path, strict=False)) if mine != its)
        return path[parts + 1 :]


def _path(frames: Sequence[Frame]) -> tuple[Spot, ...]:
    """Outermost first, without torch."""
    return tuple(spot(frame) for frame in reversed(frames) if not is_torch(frame.file))


def _order(one: Sequence[Spot], other: Sequence[Spot]) -> int:
    """-1 where `one` runs before `other`, 1 where after, 0 where their lines do not tell."""
    for mine, its in zip(one, other, strict=False):
        if mine != its:
            return ((mine[2] > its[2]) - (mine[2] < its[2])) if mine[:2] == its[:2] else 0
    return 0


def beside(told: Sequence[Told]) -> list[StackCount]:
    """Stacks after a forward pass and before its backward pass that cannot be the loss: in Python's own library, in one
    that knows nothing of torch, or in a function that reports, by its name. Any other line that calls C may be the loss."""
    between = Between(told)
    found = []
    for one in told:
        below = between.below(one.stack) if one.phase == "other" and one.stack.frames else None
        if below is not None and (_is_no_loss(one.stack.frames[0].file) or any(map(_reports, below))):
            found.append(one.stack)
    return found


def _is_no_loss(file: str) -> bool:
    return _NO_LOSS.search(file) is not None or (is_standard(file) and not file.startswith("<"))


def _reports(called: Spot) -> bool:
    return _REPORTS.search(called[1]) is not None
