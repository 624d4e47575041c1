"""`torchtop rule`: the docstrings as text."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import TORCHTOP
from torchtop.advisor.groups import GROUPS
from torchtop.advisor.judgement import Rule
from torchtop.advisor.registry import RULES
from torchtop.advisor.rules import input_bound
from torchtop.rulebook import Rulebook, pattern, sections, thresholds

HEADINGS = ["What it does", "Why it matters", "When it is wrong", "Source"]
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.CODE)


def run(*args: str, columns: int = 80) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": str(columns)}
    return subprocess.run([*TORCHTOP, "rule", *args], capture_output=True, text=True, env=environment, check=False)


@each_rule
def test_every_rule_is_in_one_group(rule: Rule) -> None:
    assert [group for group, codes in GROUPS.items() for code in codes if code == rule.CODE] != []
    assert sum(codes.count(rule.CODE) for codes in GROUPS.values()) == 1


@each_rule
def test_the_text_of_a_rule(rule: Rule) -> None:
    found = {section.heading: section.paragraphs for section in sections(rule)}
    assert list(found)[: 1 + len(HEADINGS)] == ["", *HEADINGS]
    assert found[""][0].startswith("Defining inequality: ")
    assert all(paragraphs and all(paragraphs) for paragraphs in found.values())
    assert "##" not in str(found)


@each_rule
def test_its_numbers_have_their_reasons(rule: Rule) -> None:
    known = {one.name: one for one in thresholds(rule)}
    assert known["MIN_STEPS"].value == rule.MIN_STEPS
    assert [name for name, one in known.items() if not one.reason] == []


def test_a_number_as_its_file_has_it() -> None:
    (warn,) = [one for one in thresholds(input_bound) if one.name == "WARN"]
    assert warn.value == input_bound.WARN
    assert f"WARN = 0.10  # {warn.reason}\n" in Path(input_bound.__file__).read_text()


def test_the_list_has_every_rule_below_its_group() -> None:
    done = run(columns=120)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    groups = [line for line in lines if not line.startswith(" ")]
    assert groups == [group for group in GROUPS if {rule.CODE for rule in RULES} & set(GROUPS[group])]
    codes = [line.split()[0] for line in lines if line.startswith("  ") and not line.startswith("   ")]
    assert sorted(codes) == sorted(rule.CODE for rule in RULES)


def test_one_rule() -> None:
    done = run("input-bound", columns=60)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[0].startswith("input-bound: ")
    assert [line for line in lines if line in HEADINGS] == HEADINGS
    assert any(line.startswith(f"  WARN = {input_bound.WARN:g}: ") for line in lines)


@pytest.mark.parametrize(("code", "meant"), [("input_bound", "input-bound"), ("inputbound", "input-bound")])
def test_an_unknown_rule_names_the_nearest(code: str, meant: str) -> None:
    done = run(code)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert repr(code) in line and f"did you mean {meant!r}?" in line


def test_an_unknown_rule_like_no_other() -> None:
    done = run("zzzzzz")
    assert done.returncode == 2
    assert "did you mean" not in done.stderr and "torchtop rule" in done.stderr


def test_a_rule_for_the_screen() -> None:
    rules = Rulebook()
    assert len(rules) == len(RULES)
    assert rules.text("input-bound") == sections(input_bound)
    assert rules.text("no-such-rule") == ()


def test_where_a_reason_is_looked_for(tmp_path: Path) -> None:
    """Behind the number, or right above it; never that of another number."""
    file = tmp_path / "some_rule.py"
    file.write_text(
        '"""some-rule: nothing."""\n'
        "from signal import SIGTERM\n"
        "FIRST = 1  # behind\n"
        "BARE = 2\n"
        "# above,\n"
        "# in two lines\n"
        'SECOND, THIRD = 3.5, 1 << 20\nTEXT = "# no comment"\nLONG = (\n    7  # inside\n)\nYES = True\n'
    )
    spec = importlib.util.spec_from_file_location("some_rule", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert [(one.name, one.value, one.reason) for one in thresholds(module)] == [
        ("FIRST", 1, "behind"),
        ("BARE", 2, ""),
        ("SECOND", 3.5, "above, in two lines"),
        ("THIRD", 1048576, "above, in two lines"),
        ("LONG", 7, "inside"),
    ]


def test_the_readmes_table_is_made_of_the_docstrings() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    known = {rule.CODE: rule for rule in RULES}
    rows = [f"| {group} | `{code}` | {pattern(known[code])} |" for group, codes in GROUPS.items() for code in codes]
    assert "\n".join(rows) in readme
