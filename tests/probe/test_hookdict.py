"""Hook dictionaries are never changed under a thread that iterates them, and user hooks never notice."""

# mypy: allow-untyped-calls

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest

from torchtop.probe.watch.hookdict import Hook

HERE = "test_hookdict.py"


def iterate(hooks: OrderedDict[int, Callable[[], None]], own: OrderedDict[int, Callable[[], None]]) -> int:
    """Call hooks as Optimizer.step does."""
    called = 0
    for hook in chain(hooks.values(), own.values()):
        hook()
        called += 1
    return called


def nothing() -> None:
    pass


@pytest.mark.parametrize("users", [0, 1])
def test_adding_while_iterating_at_most_one(users: int) -> None:
    hooks: OrderedDict[int, Callable[[], None]] = OrderedDict()
    ours: Any = Hook(hooks, nothing, "ours", HERE, "iterate")
    for key in range(users):
        hooks[key] = lambda: None if ours.add() else pytest.fail("one entry leaves the dictionary free to change")
    iterate(hooks, OrderedDict({7: ours.add}))
    assert list(hooks.values())[-1] is nothing


def test_removing_the_only_entry_from_inside_it() -> None:
    hooks: OrderedDict[int, Callable[[], None]] = OrderedDict()
    ours: Any = Hook(hooks, lambda: None if ours.remove() else pytest.fail("alone"), "ours", HERE, "iterate")
    assert ours.add()
    assert iterate(hooks, OrderedDict()) == 1
    assert not hooks


def test_with_more_entries_it_waits_until_nobody_iterates() -> None:
    hooks: OrderedDict[int, Callable[[], None]] = OrderedDict()
    tried: list[bool] = []
    ours: Any = Hook(hooks, lambda: tried.append(ours.remove()), "ours", HERE, "iterate")
    assert ours.add()
    hooks[0] = nothing
    assert iterate(hooks, OrderedDict()) == 2
    assert tried == [False]
    assert ours.remove()
    assert list(hooks) == [0]
    assert ours.remove(), "removing twice is fine"


def test_an_entry_that_the_user_cleared_away() -> None:
    hooks: OrderedDict[int, Callable[[], None]] = OrderedDict()
    ours = Hook(hooks, nothing, "ours")
    assert ours.add()
    hooks.clear()
    assert ours.remove()
