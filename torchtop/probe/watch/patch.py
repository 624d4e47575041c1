"""Replace an attribute of a class or module, and put it back only if it is still ours."""

from __future__ import annotations

_ABSENT = object()


class Patch:
    """`owner.name` replaced by `make(original)`; `undo` restores exactly what stood there.

    An attribute that the class only inherited is deleted again, not shadowed.
    """

    def __init__(self, owner, name, make):
        self.label = getattr(owner, "__name__", str(owner)) + "." + name
        self._owner = owner
        self._name = name
        self._own = vars(owner).get(name, _ABSENT)
        self._ours = make(getattr(owner, name))
        self._done = False
        setattr(owner, name, self._ours)

    def undo(self):
        """Restore; False when somebody has wrapped our function meanwhile, so that it has to stay, passing through."""
        if self._done:
            return True
        if vars(self._owner).get(self._name, _ABSENT) is not self._ours:
            return False
        if self._own is _ABSENT:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._own)
        self._done = True
        return True
