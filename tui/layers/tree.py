"""Who contains whom, from the dotted names of modules. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def split(name: str) -> tuple[str, str]:
    """(prefix, path) of a layer's name: `Class:a.b` is `a.b` in the root `Class:`; the only root has no prefix."""
    root, colon, path = name.partition(":")
    return (root + colon, path) if colon and "." not in root else ("", name)


def around(name: str) -> str | None:
    """Name of the module around it; None for a root."""
    prefix, path = split(name)
    return prefix + path.rpartition(".")[0] if path else None


def label(name: str) -> str:
    """The last part of its name; a root has its prefix, or is called what it is."""
    prefix, path = split(name)
    return path.rpartition(".")[2] or prefix or "(root)"


class Tree:
    """The modules of one rank. A name that only others imply (a list of layers is never called) is a holder."""

    def __init__(self, names: Iterable[str]) -> None:
        """names: in the order of named_modules(), as in the snapshot."""
        self.called: tuple[str, ...] = tuple(names)
        self.roots: list[str] = []
        self.depth: dict[str, int] = {}
        self._children: dict[str, list[str]] = {}
        for name in self.called:
            self._add(name)
        self.holders = self.depth.keys() - set(self.called)
        self.order: dict[str, int] = {name: place for place, name in enumerate(self._walk())}
        """name -> place, parents before children."""
        self.longest_name = max((len(name) for name in self.called), default=0)
        self.deepest = max(self.depth.values(), default=0)
        self.longest_label = max((len(label(name)) + depth for name, depth in self.depth.items()), default=0)

    def _add(self, name: str) -> None:
        new = []
        inner: str | None = name
        while inner is not None and inner not in self.depth:
            new.append(inner)
            self.depth[inner] = 0  # for now: a name seen is a name added
            inner = around(inner)
        for one in reversed(new):
            outer = around(one)
            if outer is None:
                self.roots.append(one)
            else:
                self.depth[one] = self.depth[outer] + 1
                self._children.setdefault(outer, []).append(one)

    def _walk(self) -> Iterator[str]:
        todo = self.roots[::-1]
        while todo:
            name = todo.pop()
            yield name
            todo += reversed(self.children(name))

    def children(self, name: str) -> list[str]:
        """Directly inside it, in the order of the model."""
        return self._children.get(name, [])

    def parents(self) -> Iterator[str]:
        """All that contain something."""
        return iter(self._children)

    def lineage(self, name: str) -> list[str]:
        """Everything around it, innermost first."""
        found = []
        outer = around(name)
        while outer is not None:
            found.append(outer)
            outer = around(outer)
        return found
