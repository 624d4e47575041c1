"""Which line of the program is at work: the innermost frame that is the user's own, as strings and a number."""

from __future__ import annotations

import os
import sys

_NAME = 1_000  # characters of a function or file: the end says most
_DEEPEST = 256  # frames looked at
_FILES = 10_000  # file names whose kind is kept; a notebook makes new ones with each cell
_PASSED_OVER, _LIBRARY, _OWN = range(3)


def our_files():
    """What the names of our own files begin with: there are no files of ours in the target."""
    return our_files.__code__.co_filename.rpartition("watch")[0]


def plain(text):
    """What JSON can carry of a name: those of files need not be UTF-8."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _NAME else "..." + text[-_NAME:]


class Program:
    """Tells the user's own files from those of libraries. Holds no frame and no code."""

    def __init__(self, torch):
        self._passed_over = (os.path.dirname(torch.__file__) + os.sep, our_files(), "<frozen ")
        self._standard = os.path.dirname(os.__file__) + os.sep
        # Scripts that an installation makes hold nothing but the call of a library.
        self._scripts = os.path.join(sys.prefix, "bin") + os.sep
        self._kinds = {}

    def line(self, frame):
        """(function, file, line) of the innermost frame that is the user's; else of a library's; else None.

        Neither torch's nor the standard library's counts. `frame` is where to begin. Takes 0.1 us a frame.
        """
        library = None
        kinds = self._kinds
        for _ in range(_DEEPEST):
            if frame is None:
                break
            code = frame.f_code
            file = code.co_filename
            kind = kinds.get(file)
            if kind is None:
                kind = self._kind(file)
            if kind == _OWN and not (file[:1] == "<" and code.co_name[:2] == "__"):  # what dataclasses write
                return _site(frame)
            if kind == _LIBRARY and library is None:
                library = _site(frame)
            frame = frame.f_back
        return library

    def _kind(self, file):
        if file.startswith(self._passed_over):
            kind = _PASSED_OVER
        elif "site-packages" in file or "dist-packages" in file or file.startswith(self._scripts):
            kind = _LIBRARY
        else:
            kind = _PASSED_OVER if file.startswith(self._standard) else _OWN
        if len(self._kinds) >= _FILES:
            self._kinds.clear()
        self._kinds[file] = kind
        return kind


def _site(frame):
    code = frame.f_code
    # The qualified name came with Python 3.11.
    return (getattr(code, "co_qualname", code.co_name), code.co_filename, frame.f_lineno or code.co_firstlineno)
