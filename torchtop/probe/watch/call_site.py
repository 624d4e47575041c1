"""Where a module is called: the Python frames that led to its first call, as strings and numbers."""

from __future__ import annotations

import os

from ..wire import SITE_FRAMES, SITE_LIMIT
from .program import our_files

_DEEPEST = 256  # frames looked at: containers of torch's inside one another take three each
_WRAPPERS = ("_call_impl", "_wrapped_call_impl")  # in libraries that copy torch's way to call a module, too


class CallSites:
    """Call sites of modules, outside torch. Written by the training thread, only ever appended to.

    rows: (number of the row that called this one or -1, function, file, line); called: (module index, number of row).
    Modules called from the same line share its row, and what called their callers. Holds no frame and no code.
    """

    def __init__(self, torch):
        self._passed_over = (os.path.dirname(torch.__file__) + os.sep, our_files(), "<frozen ")
        self._number_of = {}
        self.rows = []
        self.called = []

    def note(self, index, frame):
        """Module `index` is being called; frame: what calls it, torch's own frames included. Takes a few us."""
        found = []
        for _ in range(_DEEPEST):
            if frame is None or len(found) == SITE_FRAMES:
                break
            code = frame.f_code
            if not (code.co_filename.startswith(self._passed_over) or code.co_name in _WRAPPERS):
                # The qualified name came with Python 3.11.
                function = getattr(code, "co_qualname", code.co_name)
                found.append((function, code.co_filename, frame.f_lineno or code.co_firstlineno))
            frame = frame.f_back
        number = -1
        for site in reversed(found):
            row = (number, *site)
            number = self._number_of.get(row)
            if number is None:
                number = len(self.rows)
                if number >= SITE_LIMIT:
                    return
                self._number_of[row] = number
                self.rows.append(row)
        if found:
            self.called.append((index, number))
