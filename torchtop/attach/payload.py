"""The connector: the only code that is injected. It starts one raw thread, which offers a socket and waits.

Three layers, each for a trap that was measured (a payload that raises kills the target on CPython 3.10-3.13):
the outer one runs in `__main__`, so it assigns no name and lets nothing out; the guard starts the thread and does
nothing else on the main thread; the connector (torchtop/probe/connector.py) does the rest in a fresh namespace. An
exception that a signal handler of the program raised meanwhile (Ctrl-C, SIGTERM) is raised again in the main thread, a
moment later.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from importlib.resources import files

from torchtop.attach.rendezvous import Meeting

PAGE = 4096  # bytes; the payload with its NUL fits in one

_OUTER = """\
try:
 exec({guard!r},{{}})
except BaseException:
 try:exec({redeliver!r},{{}})
 except BaseException:pass
"""

_GUARD = "import _thread\n_thread.start_new_thread(exec,({connector!r},{{}}))"

_REDELIVER = """\
import _thread,sys
e=sys.exc_info()[0]
if e not in(MemoryError,RuntimeError,SyntaxError):_thread.start_new_thread(exec,({late!r},{{"e":e,"i":_thread.get_ident()}}))
"""

_LATE = """\
import _thread,ctypes,time
time.sleep(.002)
if e is KeyboardInterrupt:_thread.interrupt_main()
else:ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(i),ctypes.py_object(e))
"""


def build(meeting: Meeting, expires: float, page: int) -> bytes:
    """The bytes of the page: Python source, one page at most, without NUL.

    page: where in the target the payload will lie, for the connector to unmap.
    expires: CLOCK_MONOTONIC seconds after which the connector does nothing and a waiting socket is taken down.
    """
    ours, theirs = meeting.tokens
    call = f"go({expires!r},{meeting.folders!r},{meeting.file!r},b'{ours}\\n',b'{theirs}',{page})"
    guard = _GUARD.format(connector=_connector() + call)
    payload = _OUTER.format(guard=guard, redeliver=_REDELIVER.format(late=_LATE)).encode()
    if len(payload) >= PAGE or b"\0" in payload:
        raise ValueError(f"the connector does not fit a page: {len(payload)} bytes")
    return payload


@cache
def _connector() -> str:
    """Source of the connector without docstrings and comments, one space deep per block: half of its bytes."""
    module = ast.parse((files("torchtop.probe") / "connector.py").read_text())
    functions = [node for node in module.body if isinstance(node, ast.FunctionDef)]
    for function in functions:
        if ast.get_docstring(function) is not None:
            del function.body[0]
    text = "\n".join(ast.unparse(function) for function in functions) + "\n"
    return re.sub("^ +", lambda indent: " " * (len(indent.group()) // 4), text, flags=re.MULTILINE)
