"""Replace an attribute of a class or module, and put it back only if it is still ours."""

from __future__ import annotations

import copy
import functools
import sys
import time
import types

_ABSENT = object()
_PAUSE_EVERY = 256  # modules gone through before the GIL is given away for a moment


class Patch:
    """`owner.name` calls `make(original)` until `undo`, which restores exactly what stood there.

    An attribute that the class only inherited is deleted again, not shadowed. Pickled by reference, what stands there is
    itself in this process and the original in another. Whoever still has it after `undo` calls the original with it, and
    keeps nothing else of ours alive.
    """

    def __init__(self, owner, name, make):
        self.label = getattr(owner, "__name__", str(owner)) + "." + name
        self._owner = owner
        self._name = name
        self._own = vars(owner).get(name, _ABSENT)
        self._original = getattr(owner, name)
        self._way = [make(self._original)]
        self._ours = _stand_in(self._original, self._way)
        self._ours.__module__, self._ours.__qualname__ = _reference(owner, name)
        self._done = False
        self._alone = sys.getrefcount(self._ours)
        setattr(owner, name, self._ours)

    def undo(self):
        """Restore; False when somebody has wrapped our function meanwhile, so that it has to stay, passing through."""
        if self._done:
            return True
        self._way[0] = self._original
        if vars(self._owner).get(self._name, _ABSENT) is not self._ours:
            return False
        if self._own is _ABSENT:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._own)
        self._done = True
        return True

    def held(self):
        """Whether anybody has what stood there until `undo`: a call that still goes on, or who has kept it."""
        return self._done and sys.getrefcount(self._ours) > self._alone


def give_back(patches):
    """Modules into which one of our functions was imported by name get the original, once those patches are undone."""
    originals = {id(patch._ours): patch._original for patch in patches}
    for number, module in enumerate(list(sys.modules.values()), 1):
        if number % _PAUSE_EVERY == 0:
            time.sleep(0.0005)
        if not issubclass(type(module), types.ModuleType):
            continue
        # Not vars(): a lazy module would load itself.
        names = object.__getattribute__(module, "__dict__")
        if not originals.keys().isdisjoint(map(id, list(names.values()))):
            for name in list(names):
                original = originals.get(id(names.get(name)))
                if original is not None:
                    names[name] = original


def _stand_in(original, way):
    """What calls `way[0]`, and becomes a method where the original would."""
    if hasattr(type(original), "__get__"):

        def ours(*args, **kwargs):
            return way[0](*args, **kwargs)
    else:
        ours = _Unbound(way)
    return functools.update_wrapper(ours, original)


class _Unbound:
    """In place of a function in C: as an attribute of a class it does not become a method."""

    def __init__(self, way):
        self._way = way

    def __call__(self, *args, **kwargs):
        return self._way[0](*args, **kwargs)

    def __reduce__(self):
        """By name as long as it stands there; else as the original, of which a copy is itself."""
        there = getattr(sys.modules.get(self.__module__), self.__qualname__, None)
        return self.__qualname__ if there is self else (copy.copy, (self._way[0],))


def _reference(owner, name):
    if isinstance(owner, type):
        return owner.__module__, owner.__qualname__ + "." + name
    return owner.__name__, name
