"""Who contains whom, from names."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchtop.tui.layers.tree import Tree, around, label

NAMES = st.lists(
    st.sampled_from(["", "a", "a.b", "a.b.c", "a.d", "e.f.g", "G:", "G:a", "G:a.b", "G(2):x.y"]), unique=True
)


@pytest.mark.parametrize(
    ("name", "outer", "last"),
    [
        ("", None, "(root)"),
        ("head", "", "head"),
        ("blocks.0.mlp", "blocks.0", "mlp"),
        ("GAN:", None, "GAN:"),
        ("GAN:half.0", "GAN:half", "0"),
        ("GAN(2):half", "GAN(2):", "half"),
        ("experts.a:b", "experts", "a:b"),
    ],
)
def test_what_is_around(name: str, outer: str | None, last: str) -> None:
    assert around(name) == outer
    assert label(name) == last


def test_a_list_that_is_never_called_holds_what_its_names_say() -> None:
    tree = Tree(["", "blocks.0", "blocks.1", "head"])
    assert tree.holders == {"blocks"}
    assert tree.children("") == ["blocks", "head"]
    assert tree.children("blocks") == ["blocks.0", "blocks.1"]
    assert tree.depth == {"": 0, "blocks": 1, "blocks.0": 2, "blocks.1": 2, "head": 1}
    assert tree.lineage("blocks.1") == ["blocks", ""]


def test_a_root_that_is_never_called_is_a_holder_too() -> None:
    tree = Tree(["encoder", "decoder"])
    assert tree.roots == [""]
    assert tree.holders == {""}


def test_several_roots_stand_side_by_side() -> None:
    tree = Tree(["", "a", "Loss:", "D:", "D:net.0"])
    assert tree.roots == ["", "Loss:", "D:"]
    assert tree.children("D:") == ["D:net"]


@given(NAMES)
@settings(max_examples=60, deadline=None)
def test_all_are_there_once_with_parents_before_children(names: list[str]) -> None:
    tree = Tree(names)
    assert set(names) | tree.holders == tree.order.keys() == tree.depth.keys()
    for name, place in tree.order.items():
        outer = around(name)
        if outer is None:
            assert name in tree.roots and tree.depth[name] == 0
        else:
            assert tree.order[outer] < place and tree.depth[name] == tree.depth[outer] + 1
            assert tree.children(outer).count(name) == 1
