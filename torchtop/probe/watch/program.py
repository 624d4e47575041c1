"""What is the program's own: the innermost frame that is the user's, as strings and a number; an exception that is not ours."""

from __future__ import annotations

import os
import sys

_NAME = 1_000  # characters of a function or file: the end says most
_DEEPEST = 256  # frames looked at
_FILES = 10_000  # file names whose kind is kept; a notebook makes new ones with each cell
_PASSED_OVER, _LIBRARY, _OWN = range(3)
_BARE = (AssertionError, MemoryError, StopIteration)  # that our code may raise without a word


def our_files():
    """What the names of our own files begin with: there are no files of ours in the target."""
    return our_files.__code__.co_filename.rpartition("watch")[0]


def hand_on(error):
    """Within `except Exception` of ours, on a thread of the program's: raise again what has to reach the program."""
    if not is_ours(error):
        raise error


def is_ours(error):
    """False for what a signal handler raised in the midst of our code, and for what another thread had raised in this one.

    A handler is called with the very frame that it interrupts. PyThreadState_SetAsyncExc raises a class, without arguments.
    Not by the file of the innermost frame: what we read may be a property of the user's, and then the error is our doing.
    """
    traceback = error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        if _was_given(frame, frame.f_back):
            return False
        innermost, traceback = frame.f_code, traceback.tb_next
    told = error.args or isinstance(error, _BARE)
    return bool(told) or not innermost.co_filename.startswith(our_files())


def _was_given(frame, caller):
    return caller is not None and any(
        value is caller or (type(value) is tuple and any(part is caller for part in value))
        for value in list(frame.f_locals.values())
    )


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
