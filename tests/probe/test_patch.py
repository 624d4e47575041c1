"""What a program may do with a function that we have patched: send it away, keep it, make it a method."""

# mypy: allow-untyped-calls, no-warn-return-any

from __future__ import annotations

import copy
import gc
import io
import pickle
import sys
import types
import weakref
from collections.abc import Iterator
from typing import Any

import numpy
import pytest
import torch
import torch.distributed.checkpoint  # to be patched, too
from torch import nn
from torch.overrides import TorchFunctionMode

from torchtop.probe.watch.budget import Budget
from torchtop.probe.watch.patch import Patch, give_back
from torchtop.probe.watch.watch import Watch


@pytest.fixture
def watch() -> Iterator[Any]:
    found = Watch(torch, Budget())
    assert found.attach()
    found.tick()
    yield found
    found.detach()


def test_each_patched_function_is_sent_to_another_process_by_name(watch: Any) -> None:
    labels = {patch.label for patch in watch._patches}
    assert labels > {
        "torch.save",
        "pickle.dump",
        "torch.jit.save",
        "Optimizer.zero_grad",
        "torch.autograd._engine_run_backward",
    }
    for patch in watch._patches:
        if isinstance(patch._owner, type) and patch._owner.__qualname__.startswith("OptimizedModule"):
            continue
        function = getattr(patch._owner, patch._name)
        assert pickle.loads(pickle.dumps(function)) is function is not patch._original, patch.label
        assert pickle._loads(pickle._dumps(function)) is function, patch.label  # type: ignore[attr-defined]
        assert copy.copy(function) is function


def test_a_function_in_c_becomes_no_method(watch: Any) -> None:
    class Format:
        dump = pickle.dump
        save = torch.save

    file = io.BytesIO()
    made: Any = Format()
    made.dump({"a": 1}, file)
    assert pickle.loads(file.getvalue()) == {"a": 1}
    assert made.save.__self__ is made


def test_a_module_that_imported_it_meanwhile_gets_the_original(watch: Any) -> None:
    module = types.ModuleType("imported_meanwhile")
    vars(module)["keep"] = torch.save
    sys.modules[module.__name__] = module
    try:
        assert module.keep is torch.save
        watch.detach()
        assert module.keep is torch.save is torch.serialization.save
        assert watch.left_behind == []
    finally:
        del sys.modules[module.__name__]


def test_whoever_else_keeps_it_keeps_nothing_of_ours_but_it(watch: Any) -> None:
    kept: list[Any] = [torch.save, nn.Linear(2, 2).zero_grad]
    watch.detach()
    file = io.BytesIO()
    kept[0]({"a": 1}, file)
    assert file.getvalue()
    kept[1]()
    saving = weakref.ref(watch.saving)
    del watch.saving
    gc.collect()
    assert saving() is None


def test_by_keyword_too(watch: Any) -> None:
    nn.Module.zero_grad(self=nn.Linear(2, 2), set_to_none=True)


class Owner:
    """Has something to patch."""

    def work(self) -> None:
        """Nothing."""


def test_modules_that_are_no_modules_are_passed_over() -> None:
    class Lazy(types.ModuleType):
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError("it loads itself")

    sys.modules["lazy"], sys.modules["none"] = Lazy("lazy"), None  # type: ignore[assignment]
    patch = Patch(Owner, "work", lambda original: original)
    try:
        patch.undo()
        give_back([patch])
    finally:
        del sys.modules["lazy"], sys.modules["none"]


def test_what_torchscript_and_pickle_know_by_its_place_is_left_there(watch: Any) -> None:
    """`torch.jit.script` looks for its builtins by id, pickle for a function by its module and name."""

    def force(x: torch.Tensor) -> torch.Tensor:
        found = torch.autograd.grad([(x * x).sum()], [x])[0]
        assert found is not None
        return found

    x = torch.ones(2, requires_grad=True)
    assert torch.equal(torch.jit.script(force)(x), 2 * x)
    for function in (torch.autograd.grad, torch.autograd.backward, numpy.save, numpy.savez, torch.save):
        assert pickle.loads(pickle.dumps(function)) is function


def test_one_in_c_that_was_kept_is_still_sent_away_after_detach(watch: Any) -> None:
    kept: Any = pickle.dump
    watch.detach()
    assert kept is not pickle.dump
    assert pickle.loads(pickle.dumps(kept)) is pickle.dump


def test_a_lazy_module_is_not_loaded() -> None:
    class Lazy(types.ModuleType):
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError("it loads itself")

    before = sys.modules.pop("safetensors.torch", None)
    sys.modules["safetensors.torch"] = Lazy("safetensors.torch")
    found = Watch(torch, Budget())
    try:
        assert found.attach()
        found.tick()
        assert found.errors == 0
    finally:
        found.detach()
        del sys.modules["safetensors.torch"]
        if before is not None:
            sys.modules["safetensors.torch"] = before


def test_a_program_that_counts_operations_counts_none_of_ours(watch: Any) -> None:
    class Counting(TorchFunctionMode):
        calls = 0

        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.calls += 1
            return function(*args, **(kwargs or {}))

    def calls() -> int:
        model = nn.Linear(2, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        x = torch.ones(1, 2)
        with Counting() as counted:
            for _ in range(5):
                optimizer.zero_grad()
                model(x).sum().backward()
                optimizer.step()
        return counted.calls

    watch.weights.want()
    watched = calls()
    watch.detach()
    assert watched == calls()
