"""Add to and take from a hook dictionary that a training thread may be iterating at this very moment.

The trap (measured): `Optimizer.step` iterates its hook dictionaries in Python, and a change meanwhile raises
"OrderedDict mutated during iteration" in the user's loop. What makes a change safe, from CPython's odictobject.c:

* An iterator fetches the key after the current one in advance. On the last key it knows that nothing follows and
  never looks at the dictionary again. So while a dictionary has no entry or one entry, every iterator either has not
  begun or will not look again: adding to it, and taking that one entry out, can disturb nobody.
* `for h in chain(a.values(), b.values())` creates each iterator at the moment it starts on it, in C.
* `Module.__call__` copies its dictionaries by star-unpacking, in one bytecode: always safe.

With more entries than that the change waits until no thread is inside a function that iterates the dictionary.
"""

from __future__ import annotations

import itertools
import sys

# torch's own handles count up from 0, so these can never be theirs. Ints, because torch.compile guards on keys.
_keys = itertools.count(-0x746F7263, -1)


def free_to_change(hooks, adding, iterating_file, iterating_name):
    """Whether `hooks` may be changed now.

    adding: True to add an entry, False to take our own out.
    iterating_file, iterating_name: end of the file name, and name, of the function that iterates `hooks`; None when
    the dictionary is only ever copied whole.
    """
    if iterating_name is None or len(hooks) <= 1:
        return True
    if adding and not hooks:
        return True
    for frame in sys._current_frames().values():
        while frame is not None:
            code = frame.f_code
            if code.co_name == iterating_name and code.co_filename.endswith(iterating_file):
                return False
            frame = frame.f_back
    return True


class Hook:
    """One entry of ours in one hook dictionary."""

    def __init__(self, hooks, function, label, iterating_file="", iterating_name=None):
        self._hooks = hooks
        self._function = function
        self._where = (iterating_file, iterating_name)
        self._key = None
        self.label = label

    def add(self):
        """Put the function in; False when it has to be tried again later."""
        if self._key is not None:
            return True
        if not free_to_change(self._hooks, True, *self._where):
            return False
        key = next(_keys)
        self._hooks[key] = self._function
        self._key = key
        return True

    def remove(self):
        """Take the function out; False when it has to be tried again later. Removing twice is fine."""
        if self._key is None:
            return True
        if self._key in self._hooks:
            if not free_to_change(self._hooks, False, *self._where):
                return False
            # Not `del`: the training thread may be taking it out at this moment, too.
            self._hooks.pop(self._key, None)
        self._key = None
        return True
