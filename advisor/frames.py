"""Whose code a frame of a stack is in: the user's, an installed library's, Python's own, or torch's."""

from __future__ import annotations

import re
from functools import lru_cache

from torchtop.snapshot import Frame

Spot = tuple[str, str, int]
"""File, function, line."""

# By the parts of a path, not by where Python is installed here: the target may run another one, elsewhere.
_LIBRARY = re.compile(
    r"(?:^|/)(?:site-packages|dist-packages|lib(?:64)?/python\d\.\d+|python\d+\.zip)/|(?:^|/)torchtop/probe/"
)
_STANDARD = re.compile(r"(?:^|/)(?:lib(?:64)?/python\d\.\d+/(?!(?:site|dist)-packages/)|python\d+\.zip/)|^<")
# A torch that was built from source stands in no site-packages. Inductor writes what it compiles to files of its own.
_TORCH = re.compile(
    r"(?:^|/)torch/(?:_\w*|accelerator|amp|ao|autograd|backends|cuda|distributed|distributions|export|func|functional|fx"
    r"|hub|jit|library|masked|mps|multiprocessing|nested|nn|optim|overrides|profiler|random|serialization|signal|sparse"
    r"|storage|testing|utils|xpu)(?:/|\.py$)|/torchinductor_|^<eval_with_key>"
)
_NOTEBOOK = re.compile(r"<(?:ipython-input-|stdin>)")
_TYPED = "<string>"  # python -c, but also what dataclasses generate
_GENERATED = frozenset(("__init__", "__new__", "__eq__", "__lt__", "__hash__", "__repr__", "__setattr__"))


def spot(frame: Frame) -> Spot:
    """What two samples of one line have in common."""
    return frame.file, frame.function, frame.line


@lru_cache(maxsize=4096)  # thousands of frames are of some hundred files
def is_torch(file: str) -> bool:
    """A file of torch's, or one that it has generated."""
    return _TORCH.search(file) is not None


def is_users(frame: Frame) -> bool:
    """Outside of what is installed. Code typed into a command line or a notebook is the user's; other code without a
    file is generated."""
    if frame.file.startswith("<"):
        typed = frame.file == _TYPED and frame.function.rpartition(".")[2] not in _GENERATED
        return typed or _NOTEBOOK.match(frame.file) is not None
    return not _LIBRARY.search(frame.file) and not is_torch(frame.file)


def is_standard(file: str) -> bool:
    """A file of Python's own library."""
    return _STANDARD.search(file) is not None


def is_not_torchs(frame: Frame) -> bool:
    """The user's and the frameworks'."""
    return is_users(frame) or not (is_standard(frame.file) or is_torch(frame.file))
