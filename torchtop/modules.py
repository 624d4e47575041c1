"""The modules of one rank: names, sizes, and who contains whom. Built from the probe's `modules` messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

_WRAPPERS = frozenset(
    ("DistributedDataParallel", "DataParallel", "FullyShardedDataParallel", "OptimizedModule", "CheckpointWrapper")
)
_WRAPPED_AS = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))


class Module(Struct, frozen=True, gc=False):
    """One module as the probe described it."""

    index: int
    root: int
    name: str
    type: str
    parameters: int
    parameter_bytes: int
    flops_per_output: float | None
    leaf: bool


class ModuleTree:
    """Modules by index, with the parent that their names imply."""

    def __init__(self) -> None:
        self.modules: dict[int, Module] = {}
        self._by_name: dict[tuple[int, str], Module] = {}
        self._lineages: dict[int, tuple[int, ...]] = {}
        self._roots_with_parameters: dict[int, str] = {}

    def add(self, message: dict[str, Any]) -> None:
        """Take in one `modules` message (see probe/watch/module_table.py for its rows)."""
        root, kind = message["root"], message["class"]
        if kind is not None and message["parameters"]:
            self._roots_with_parameters[root] = kind
        for row in message["rows"]:
            module = Module(*row)
            if module.index in self.modules:
                continue  # told again to a reader that had missed it
            self.modules[module.index] = module
            self._by_name[module.root, module.name] = module
        self._lineages.clear()

    def lineage(self, index: int) -> tuple[int, ...]:
        """The module itself and everything that contains it, innermost first."""
        known = self._lineages.get(index)
        if known is None:
            known = self._lineages[index] = self._find_lineage(index)
        return known

    def _find_lineage(self, index: int) -> tuple[int, ...]:
        module = self.modules.get(index)
        if module is None:
            return (index,)
        found = [index]
        name = module.name
        while name:
            name = name.rpartition(".")[0]
            holder = self._by_name.get((module.root, name))
            if holder is not None:
                found.append(holder.index)
        return tuple(found)

    def is_ancestor(self, index: int, of: int) -> bool:
        """Whether module `index` is `of` or contains it."""
        return index in self.lineage(of)

    def trained_roots(self, indices: Iterable[int]) -> tuple[int, ...]:
        """Roots with parameters of the modules `indices`, in order of appearance."""
        roots = {self.modules[index].root for index in indices if index in self.modules}
        return tuple(sorted(roots & self._roots_with_parameters.keys()))

    def shown_name(self, index: int, roots: Sequence[int]) -> str | None:
        """What users call it: wrapper parts removed; None for a wrapper itself and for modules not described yet.

        roots: `trained_roots` of all modules that are shown together. The name of a module of the only one needs no
        more; others (a loss, the halves of a GAN) carry the class of theirs, and its number if it is the second of it.
        """
        module = self.modules.get(index)
        if module is None or module.type in _WRAPPERS:
            return None
        kept, path = [], ""
        for part in module.name.split(".") if module.name else []:
            holder = self._by_name.get((module.root, path))
            if not (part in _WRAPPED_AS and holder is not None and holder.type in _WRAPPERS):
                kept.append(part)
            path = f"{path}.{part}" if path else part
        return f"{self._prefix(module, roots)}{'.'.join(kept)}"

    def _prefix(self, module: Module, roots: Sequence[int]) -> str:
        if len(roots) == 1 and module.root == roots[0]:
            return ""
        root = self.modules.get(module.root)
        kind = root.type if root is not None else module.type
        same = [other for other in roots if self._roots_with_parameters[other] == kind]
        number = same.index(module.root) + 1 if module.root in same else 1
        return f"{kind}:" if number == 1 else f"{kind}({number}):"
