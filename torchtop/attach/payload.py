"""What is put into the target: a page of text and a page of code. The text is the connector, the code starts it.

No Python runs on the main thread. A pending call that runs Python there was tried first, and a Ctrl-C (or any handler
that raises) that came while its string was being compiled killed the target: PyRun_SimpleString then returns -1
without an exception set. So the pending call is a few instructions of ours that start a thread and return 0; that
thread takes the GIL as any C thread does, runs the text, and is gone. Signal handlers never run on it.
"""

from __future__ import annotations

import ast
import re
import struct
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from torchtop.attach.rendezvous import Meeting

PAGE = 4096  # bytes
SIZE = 2 * PAGE  # text, then code
FLAG = PAGE - 1  # offset of the byte that turns 1 when the code will not be run again
FUNCTIONS = ("PyThread_start_new_thread", "PyGILState_Ensure", "PyRun_SimpleString", "PyGILState_Release")

# The text runs in `__main__`, so it assigns no name there; it starts a raw Python thread and ends, so that the code
# page is free to go; and it lets nothing out, because what leaves it is printed on the job's stderr.
_TEXT = """\
try:
 exec({start!r},{{}})
except BaseException:pass
"""
_START = "import _thread\n_thread.start_new_thread(exec,({connector!r},{{}}))"


class Functions(NamedTuple):
    """Addresses in the target of `FUNCTIONS`."""

    start_new_thread: int
    ensure: int
    run_string: int
    release: int


def text(meeting: Meeting, expires: float, page: int) -> bytes:
    """Python source of less than a page, without NUL.

    expires: CLOCK_MONOTONIC seconds after which the connector does nothing and a waiting socket is taken down;
    page: where in the target the text will lie, for the connector to unmap.
    """
    ours, theirs = meeting.tokens
    call = f"go({expires!r},{meeting.folders!r},{meeting.file!r},b'{ours}\\n',b'{theirs}',{page})"
    source = _TEXT.format(start=_START.format(connector=_connector() + call)).encode()
    if len(source) >= FLAG or b"\0" in source:
        raise ValueError(f"the connector does not fit a page: {len(source)} bytes")
    return source


def code(at: int, functions: Functions) -> bytes:
    """x86-64 instructions for address `at + PAGE` (System V ABI): the pending call, and the thread that it starts.

    The pending call gets `at` as its argument. The thread sets the flag while it holds the GIL and leaves the page by
    a jump: who holds the GIL and sees the flag knows that nobody is in the page any more.
    """

    def load(register: bytes, value: int) -> bytes:
        return register + struct.pack("<Q", value)

    rax, rdi = b"\x48\xb8", b"\x48\xbf"  # mov reg, imm64
    call_rax = b"\xff\xd0"

    def pending(thread: int) -> bytes:
        return (
            b"\x48\x83\xec\x08"  # sub rsp, 8: calls need a 16-byte aligned stack
            + b"\x48\x89\xfe"  # mov rsi, rdi: the argument goes on to the thread
            + load(rdi, thread)
            + load(rax, functions.start_new_thread)
            + call_rax
            + b"\x31\xc0"  # xor eax, eax: a pending call that returns anything else raises in user code
            + b"\x48\x83\xc4\x08"  # add rsp, 8
            + b"\xc3"  # ret
        )

    thread = (
        b"\x53\x55"  # push rbx; push rbp
        + b"\x48\x83\xec\x08"  # sub rsp, 8
        + b"\x48\x89\xfb"  # mov rbx, rdi
        + load(rax, functions.ensure)
        + call_rax
        + b"\x89\xc5"  # mov ebp, eax: PyGILState_STATE
        + b"\x48\x89\xdf"  # mov rdi, rbx
        + load(rax, functions.run_string)
        + call_rax
        + b"\x89\xef"  # mov edi, ebp
        + load(rax, at + FLAG)
        + b"\xc6\x00\x01"  # mov byte [rax], 1
        + load(rax, functions.release)
        + b"\x48\x83\xc4\x08"  # add rsp, 8
        + b"\x5d\x5b"  # pop rbp; pop rbx
        + b"\xff\xe0"  # jmp rax
    )
    return pending(at + PAGE + len(pending(0))) + thread


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
