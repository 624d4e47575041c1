"""Every rule says what it is in the same way: `torchtop rule`, the findings and the docs show nothing else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from torchtop.advisor import rules
from torchtop.advisor.groups import GROUPS
from torchtop.advisor.judgement import Rule
from torchtop.advisor.needs import NEEDS
from torchtop.advisor.registry import RULES

HEADINGS = ["What it does", "Why it matters", "When it is wrong", "Source"]
REMEDIES = frozenset(
    (
        "more-workers",
        "bigger-batch",
        "accumulate",
        "fused-optimizer",
        "bf16-autocast",
        "tf32",
        "checkpoint-activations",
        "channels-last",
        "freeze-gc",
        "set-threads",
        "compile-blocks",
        "quantize-int8",
        "prune-channels",
        "prune-weights",
        "distill",
        "shard-optimizer",
        "shard-model",
        "compress-gradients",
        "8bit-optimizer",
        "remove-sync",
        "pin-memory",
        "async-checkpoint",
        "cuda-graphs",
        "expandable-segments",
        "no-sync-accumulation",
        "tensor-parallel",
        "power-limit",
    )
)
FILES = sorted(path for path in Path(rules.__path__[0]).glob("*.py") if path.stem != "__init__")


def _id(rule: Rule) -> str:
    return rule.CODE


@pytest.mark.parametrize("rule", RULES, ids=_id)
def test_the_docstring_has_its_parts(rule: Rule) -> None:
    lines = (rule.__doc__ or "").splitlines()
    assert re.fullmatch(rf"{rule.CODE}: \S.*\.", lines[0])
    assert lines[1] == ""
    assert lines[2].startswith("Defining inequality: ")
    assert [line.removeprefix("## ") for line in lines if line.startswith("#")] == HEADINGS
    _, *sections = re.split(r"^## .*$", rule.__doc__ or "", flags=re.MULTILINE)
    assert all(len(section.split()) > 5 for section in sections)


@pytest.mark.parametrize("rule", RULES, ids=_id)
def test_names_are_known(rule: Rule) -> None:
    assert set(rule.REMEDIES) <= REMEDIES
    assert set(rule.NEEDS) <= NEEDS.keys()
    assert rule.MIN_STEPS >= 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_thresholds_say_why(path: Path) -> None:
    """A number with a name has its unit and its reason behind it, or above it."""
    source = path.read_text()
    lines = source.splitlines()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and _is_a_number(node.value):
            behind = any("#" in line for line in lines[node.lineno - 1 : node.end_lineno])
            above = lines[node.lineno - 2].startswith("#")
            assert behind or above, f"{node.targets[0].id} has no comment"


def _is_a_number(value: ast.expr) -> bool:
    numbers = [one for one in ast.walk(value) if isinstance(one, ast.Constant) and isinstance(one.value, int | float)]
    return isinstance(value, ast.Constant | ast.BinOp | ast.UnaryOp) and bool(numbers)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_is_in_the_registry(path: Path) -> None:
    code = path.stem.replace("_", "-")
    assert code in {rule.CODE for rule in RULES}, f"advisor/registry.py lacks {code}"


def test_the_registry_is_the_table_and_in_its_order() -> None:
    assert [rule.CODE for rule in RULES] == [code for codes in GROUPS.values() for code in codes]
