"""The modules of one rank: names, sizes, and who contains whom. Built from the probe's `modules` messages."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

_WRAPPERS = frozenset(
    ("DistributedDataParallel", "DataParallel", "FullyShardedDataParallel", "OptimizedModule", "CheckpointWrapper")
)
_WRAPPED_AS = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))


class Module(Struct, frozen=True):
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

    def shown_name(self, index: int) -> str | None:
        """What users call it: wrapper parts removed; None for a wrapper itself and for modules not described yet."""
        module = self.modules.get(index)
        if module is None or module.type in _WRAPPERS:
            return None
        kept, path = [], ""
        for part in module.name.split(".") if module.name else []:
            holder = self._by_name.get((module.root, path))
            if not (part in _WRAPPED_AS and holder is not None and holder.type in _WRAPPERS):
                kept.append(part)
            path = f"{path}.{part}" if path else part
        name = ".".join(kept)
        return f"{self._prefix(module)}{name}"

    def _prefix(self, module: Module) -> str:
        """'' for the only root that has parameters; others (a loss, the other half of a GAN) carry their class."""
        if module.root in self._roots_with_parameters and len(self._roots_with_parameters) == 1:
            return ""
        root = self.modules.get(module.root)
        return f"{root.type if root is not None else module.type}:"
