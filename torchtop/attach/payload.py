"""What is put into the target: a page of text and a page of code. The text is the connector, the code starts it.

The code has two entries. Mostly the interpreter makes the pending call, which starts the thread; where the main thread
is asleep and would make none for hours, the thread is started directly (inject.py). Either way the code looks at the
text's first byte right before it would do anything: once that is NUL, all it does is unmap both pages.

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

from torchtop.attach.c_api import CApi
from torchtop.attach.rendezvous import Meeting

PAGE = 4096  # bytes
SIZE = 2 * PAGE  # text, then code
FLAG = PAGE - 1  # offset of the byte that turns 1 when the code will not be run again
_ROOM = 128  # bytes for the pending call
_RAX, _RDI = b"\x48\xb8", b"\x48\xbf"  # mov reg, imm64
_CALL_RAX = b"\xff\xd0"
_LEAVE = b"\x48\x83\xc4\x08\x5d\x5b"  # add rsp, 8; pop rbp; pop rbx

# The text runs in `__main__`, so it assigns no name there; it starts a raw Python thread and ends, so that the code
# page is free to go; and it lets nothing out, because what leaves it is printed on the job's stderr.
_TEXT = """\
try:
 exec({start!r},{{}})
except BaseException:pass
"""
_START = "import _thread\n_thread.start_new_thread(exec,({connector!r},{{}}))"


def text(meeting: Meeting, expires: float, page: int) -> bytes:
    """Python source of less than a page, without NUL.

    expires: CLOCK_MONOTONIC seconds after which the connector does nothing and a waiting socket is taken down;
    page: where in the target the text will lie, for the connector to unmap.
    """
    source = _TEXT.format(start=_start(meeting, expires, page)).encode()
    if len(source) >= FLAG or b"\0" in source:
        raise ValueError(f"the connector does not fit a page: {len(source)} bytes")
    return source


def _start(meeting: Meeting, expires: float, page: int, first: str = "") -> str:
    ours, theirs = meeting.tokens
    call = f"go({expires!r},{meeting.folders!r},{meeting.file!r},b'{ours}\\n',b'{theirs}',{page})"
    return _START.format(connector=first + _connector() + call)


def script(meeting: Meeting, expires: float, file: str) -> str:
    """The same text as a script called `file` in one of the folders, which removes itself (remote_exec.py)."""
    remove = f"import os\nfor _ in {meeting.folders!r}:\n try:os.unlink(_+{'/' + file!r})\n except OSError:pass\n"
    return _TEXT.format(start=_start(meeting, expires, 0, remove))


def pending_call(page: int) -> int:
    """Address of the function for `Py_AddPendingCall`. Its argument is `page`."""
    return page + PAGE


def thread(page: int) -> int:
    """Address of the function for `PyThread_start_new_thread`. Its argument is `page`."""
    return page + PAGE + _ROOM


def code(page: int, functions: CApi) -> bytes:
    """x86-64 instructions for the second page at `page` (System V ABI): the pending call, and the thread.

    The thread sets the flag while it holds the GIL and leaves the page by a jump: who holds the GIL and sees the flag
    knows that nobody is in the page any more. The last `munmap` is a jump too: it returns to whoever called us.
    """
    pending = _joined(
        b"\x53"  # push rbx: and with that the stack is 16-byte aligned, as calls need it
        + b"\x48\x89\xfb"  # mov rbx, rdi
        + b"\x80\x3b\x00",  # cmp byte [rbx], 0
        b"\x48\x89\xde"  # mov rsi, rbx: the argument goes on to the thread
        + _load(_RDI, thread(page))
        + _load(_RAX, functions.start_new_thread)
        + _CALL_RAX
        + b"\x48\xff\xc0"  # inc rax: an invalid thread is -1
        + b"\x74\x04"  # jz, over the next three
        + b"\x31\xc0"  # xor eax, eax: a pending call that returns anything else raises in user code
        + b"\x5b"  # pop rbx
        + b"\xc3",  # ret
        b"\x48\x89\xdf"  # mov rdi, rbx
        + b"\x5b"  # pop rbx
        + _unmap(functions),  # returns 0, which is what a pending call has to return
    )
    text_runner = _joined(
        b"\x53\x55"  # push rbx; push rbp
        + b"\x48\x83\xec\x08"  # sub rsp, 8
        + b"\x48\x89\xfb"  # mov rbx, rdi
        + _load(_RAX, functions.ensure)
        + _CALL_RAX
        + b"\x89\xc5"  # mov ebp, eax: PyGILState_STATE
        + b"\x80\x3b\x00",  # cmp byte [rbx], 0
        b"\x48\x89\xdf"  # mov rdi, rbx
        + _load(_RAX, functions.run_string)
        + _CALL_RAX
        + b"\x89\xef"  # mov edi, ebp
        + _load(_RAX, page + FLAG)
        + b"\xc6\x00\x01"  # mov byte [rax], 1
        + _load(_RAX, functions.release)
        + _LEAVE
        + b"\xff\xe0",  # jmp rax
        b"\x89\xef"  # mov edi, ebp
        + _load(_RAX, functions.release)
        + _CALL_RAX
        + b"\x48\x89\xdf"  # mov rdi, rbx
        + _LEAVE
        + _unmap(functions),
    )
    return pending.ljust(_ROOM, b"\xcc") + text_runner


def _load(register: bytes, value: int) -> bytes:
    return register + struct.pack("<Q", value)


def _joined(begin: bytes, wanted: bytes, cancelled: bytes) -> bytes:
    """`begin` ends in a comparison with zero: equal goes to `cancelled`."""
    return begin + b"\x74" + bytes([len(wanted)]) + wanted + cancelled  # je


def _unmap(functions: CApi) -> bytes:
    return b"\xbe" + struct.pack("<I", SIZE) + _load(_RAX, functions.unmap) + b"\xff\xe0"  # mov esi, SIZE; jmp rax


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
