"""Who may import what, what may not stand in probe code, and that nothing was forgotten in a list."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import jsonschema
import msgspec
import pytest

from torchtop import record, snapshot
from torchtop.attach import bundle

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
SIDES = ("advisor", "collectors", "tui")
PROBE = ROOT / "torchtop/probe"
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
# Not sent in the bundle: the connector is injected before it, the loader is its first entry.
NOT_BUNDLED = {"boot", "connector"}


def in_tree(folder: Path) -> Iterator[Path]:
    """The folder and all below it, links not followed: torchtop/tui is the same as tui."""
    for found, below, _ in os.walk(folder):
        below[:] = [name for name in below if name != "__pycache__" and not (Path(found) / name).is_symlink()]
        yield Path(found)


def module_name(path: Path) -> str:
    """`collectors/host.py` -> torchtop.collectors.host"""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join((() if parts[0] == "torchtop" else ("torchtop",)) + parts).removesuffix(".__init__")


FILES = {
    module_name(path): path
    for top in ("torchtop", *SIDES)
    for folder in in_tree(ROOT / top)
    for path in folder.glob("*.py")
}
PROBE_FILES = {name: path for name, path in FILES.items() if path.is_relative_to(PROBE)}
# What runs in a user's process: the probe, and the two ways in which a job may ask for it.
IN_TARGET = {
    **PROBE_FILES,
    **{name: FILES[name] for name in ("torchtop.listen", "torchtop.attach.site.sitecustomize")},
}
each_probe_file = pytest.mark.parametrize("path", PROBE_FILES.values(), ids=PROBE_FILES)
each_file_in_target = pytest.mark.parametrize("path", IN_TARGET.values(), ids=IN_TARGET)


def imports(name: str, tree: ast.AST) -> set[str]:
    """What the file of module `name` imports, in any of its functions too: `from a import b` is a.b."""
    package = name if FILES[name].name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def importers(package: str) -> set[str]:
    """Modules of ours that import `package` or something inside it."""
    return {
        name
        for name, path in FILES.items()
        if any(inside(imported, package) for imported in imports(name, ast.parse(path.read_text())))
    }


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("--help", 0),
        ("schema", 0),
        ("export 999999999", 3),
        ("export --help", 0),
        ("advise 999999999", 3),
        ("rule", 0),
        ("rule input-bound", 0),
    ],
)
def test_a_command_loads_nothing_heavy(command: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "torchtop", *command.split()],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr.splitlines()[-1]
    loaded = set(re.findall(r"^import time: .*\| +(\S+)$", done.stderr, re.MULTILINE))
    assert "torchtop.cli" in loaded
    assert {name for name in loaded if name.split(".")[0] in ("textual", "torch", "rich")} == set()


def test_torch_is_imported_by_the_demos_only() -> None:
    """And by the program that the target's own interpreter runs to measure with it, which no file of ours imports."""
    measures = "torchtop.collectors.peak_rates"
    assert "torchtop.demo.transformer" in importers("torch")
    assert {name for name in importers("torch") if not inside(name, "torchtop.demo")} == {measures}
    assert importers(measures) == set()


def test_the_probe_imports_only_the_standard_library_and_itself() -> None:
    """Not even torch, which it takes from sys.modules: an import could load what the job itself never would."""
    allowed = {*sys.stdlib_module_names, "torchtop"}
    for name, path in IN_TARGET.items():
        tree = ast.parse(path.read_text())
        strangers = {found for found in imports(name, tree) if found.split(".")[0] not in allowed}
        assert strangers == set(), name
        # In the target it is called _torchtop: only relative imports find each other there.
        absolute = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 0]
        assert not [node.module for node in absolute if inside(node.module or "", "torchtop")], name
        assert all(inside(found, "torchtop.probe") for found in imports(name, tree) if inside(found, "torchtop")), name


def test_the_monitor_imports_wire_only_of_the_probe() -> None:
    for name, path in FILES.items():
        if name not in PROBE_FILES:
            used = {found for found in imports(name, ast.parse(path.read_text())) if inside(found, "torchtop.probe")}
            assert {found for found in used if not inside(found, "torchtop.probe.wire")} == set(), name


@pytest.mark.parametrize("side", SIDES)
def test_sides_do_not_import_one_another(side: str) -> None:
    others = {name for other in SIDES if other != side for name in FILES if inside(name, f"torchtop.{other}")}
    assert importers(f"torchtop.{side}") & others == set()


@each_file_in_target
def test_probe_code_is_python_3_9(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 9))


@each_file_in_target
def test_probe_code_has_nothing_forbidden(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        # Comments are gone already; docstrings may name what is forbidden, to say why.
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(
            node
        ):
            node.body[0] = ast.Pass()
    code = ast.unparse(tree)
    forbidden = (
        r"full_backward_hook",
        r"\.synchronize\(",
        r"manual_seed",
        r"gc\.get_objects",
        r"os\.umask",
        r"\bprint\(",
        r"\blogging\b",
    )
    assert [found.group() for pattern in forbidden for found in re.finditer(pattern, code)] == []


@each_probe_file
def test_no_statement_of_the_probe_takes_long_to_compile(path: Path) -> None:
    for node in ast.parse(path.read_text()).body:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        assert (node.end_lineno or first) - first + 1 <= bundle.PIECE_LINES, f"line {first}"


def test_the_bundle_has_every_module_once() -> None:
    bundled = [name.removeprefix("torchtop.probe").lstrip(".") for name in PROBE_FILES]
    assert sorted(bundle.MODULES) == sorted(set(bundled) - NOT_BUNDLED)


def test_the_bundle_is_in_the_order_of_imports() -> None:
    """The target runs the modules one after the other, and has no finder for those that are still to come."""
    earlier: set[str] = set()
    for short in bundle.MODULES:
        name = f"torchtop.probe.{short}" if short else "torchtop.probe"
        earlier.add(name)
        top = ast.parse(FILES[name].read_text())
        top.body = [node for node in top.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        needed = {found if found in FILES else found.rpartition(".")[0] for found in imports(name, top)}
        assert {found for found in needed if found in FILES} <= earlier, name


def test_packages_are_those_of_the_tree() -> None:
    packages = {module_name(path) for path in FILES.values() if path.name == "__init__.py"}
    assert sorted(SETUPTOOLS["packages"]) == sorted(packages)
    for side in SIDES:
        assert SETUPTOOLS["package-dir"][f"torchtop.{side}"] == side
        assert os.readlink(ROOT / "torchtop" / side) == f"../{side}"


def test_every_file_is_installed() -> None:
    """Code in a folder that is no package has to be named as data of the package above it."""
    for path in FILES.values():
        package = next(folder for folder in path.parents if (folder / "__init__.py").exists())
        data = SETUPTOOLS["package-data"].get(module_name(package / "__init__.py"), [])
        assert path.parent == package or any(path in package.glob(pattern) for pattern in data), path


@pytest.mark.parametrize("module", [snapshot, record], ids=["snapshot", "record"])
def test_every_field_says_what_it_is(module: ModuleType) -> None:
    structs = [value for _, value in inspect.getmembers(module, inspect.isclass) if issubclass(value, msgspec.Struct)]
    for struct in structs:
        hints = typing.get_type_hints(struct, include_extras=True)
        for field in struct.__struct_fields__:
            metas = [meta for meta in getattr(hints[field], "__metadata__", ()) if isinstance(meta, msgspec.Meta)]
            assert any(meta.description for meta in metas), f"{struct.__name__}.{field}"


def test_the_schema_is_one() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "torchtop", "schema"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    schema = json.loads(printed)
    jsonschema.Draft202012Validator.check_schema(schema)
    for struct in schema["$defs"].values():
        for name, field in struct["properties"].items():
            assert field.get("description"), f"{struct['title']}.{name}"
