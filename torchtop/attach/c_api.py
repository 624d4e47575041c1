"""Where the functions lie that an injection calls: CPython's C API and libc's `munmap`, in the memory of one target."""

from __future__ import annotations

import os
import re
import struct
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from torchtop.attach import proc
from torchtop.attach.elf import X86_64, dynamic_symbols, machine
from torchtop.attach.ptrace import read_memory
from torchtop.errors import AttachError, ProbeImpossible

FUNCTIONS = (
    "Py_AddPendingCall",
    "Py_IsInitialized",
    "PyErr_CheckSignals",
    "PyThread_start_new_thread",
    "PyGILState_Ensure",
    "PyRun_SimpleString",
    "PyGILState_Release",
)
_VERSION = "Py_Version"  # data, since 3.11: PY_VERSION_HEX (C API, "API and ABI Versioning")
_MEMORY = ("mmap", "mprotect", "munmap")
_LIBC = re.compile(r"/(libc[.-][^/]*|ld-[^/]*)$")
_ARCHITECTURES = {3: "32-bit x86", 40: "32-bit ARM", 183: "aarch64", 21: "ppc64le", 22: "s390x", 243: "riscv64"}


class Unsuited(AttachError):
    """Our own way in does not fit this target, for a technical reason; it was not touched, another way may do."""


class CApi(NamedTuple):
    """Addresses in one target."""

    add_pending_call: int
    is_initialized: int
    check_signals: int
    start_new_thread: int
    ensure: int
    run_string: int
    release: int
    unmap: int


class MemoryFunctions(NamedTuple):
    """Addresses of libc's own in one target."""

    map: int
    protect: int
    unmap: int


class Layout(NamedTuple):
    """All that an injection needs to know of one target."""

    functions: CApi
    gadget: int
    """Address of an existing `syscall` instruction."""
    trap: int
    """Address of an existing int3 byte."""


def check_architecture(pid: int) -> None:
    """Raise `ProbeImpossible` where machine code for x86-64 cannot run. OSError when `pid` is gone or out of reach."""
    found = machine(proc.PROC / str(pid) / "exe")
    if found == X86_64:
        return
    name = _ARCHITECTURES.get(found, f"ELF machine {found}") if found is not None else "no ELF file"
    raise ProbeImpossible(
        f"process {pid} is built for another architecture ({name}), and the probe is injected into x86-64 programs only: "
        "start the job with `torchtop run` instead, or use Python 3.14 or newer, which lets it in by itself"
    )


def python_version(pid: int) -> tuple[int, int] | None:
    """(major, minor) of the CPython in `pid`, 3.11 or newer; None when it is older or does not say."""
    for file, start in _candidates(pid, proc.mappings(pid)):
        found = _symbols(file, (_VERSION,))
        if found:
            raw = read_memory(pid, start + found[_VERSION], 8)
            number = struct.unpack("<Q", raw)[0] if len(raw) == 8 else 0
            return (number >> 24 & 0xFF, number >> 16 & 0xFF) if number >> 32 == 0 and number else None
    return None


def layout(pid: int) -> Layout:
    """Look it all up, with one look at the memory map: of a training job that is a thousand lines.

    Raises `Unsuited` where something is missing.
    """
    maps = proc.mappings(pid)
    return Layout(find(pid, maps), *_instructions(pid, maps))


def find(pid: int, maps: list[proc.Mapping] | None = None) -> CApi:
    """Look the functions up in `.dynsym` of a libpython or the executable. Raises `Unsuited` when they are not there."""
    maps = proc.mappings(pid) if maps is None else maps
    for file, start in _candidates(pid, maps):
        found = _symbols(file, FUNCTIONS)
        if len(found) == len(FUNCTIONS):
            return CApi._make([*(start + found[name] for name in FUNCTIONS), memory_functions(pid, maps).unmap])
    raise Unsuited(
        f"process {pid} is no CPython with exported symbols: neither a libpython nor its executable "
        f"({os.readlink(proc.PROC / str(pid) / 'exe')}) has Py_AddPendingCall; start the job with `torchtop run` instead"
    )


def memory_functions(pid: int, maps: list[proc.Mapping]) -> MemoryFunctions:
    """Look libc's functions up. Raises `Unsuited` for a program without a shared libc."""
    for path, start in _first_mappings(maps).items():
        if _LIBC.search(path):
            found = _symbols(proc.inside(pid, path), _MEMORY)
            if len(found) == len(_MEMORY):
                return MemoryFunctions(*(start + found[name] for name in _MEMORY))
    raise Unsuited(f"process {pid} has no shared libc: start the job with `torchtop run` instead")


def _instructions(pid: int, maps: list[proc.Mapping]) -> tuple[int, int]:
    """Addresses of an existing `syscall` instruction and of an existing int3 byte, in vdso or libc."""
    gadget = trap = 0
    with open(proc.PROC / str(pid) / "mem", "rb", buffering=0) as memory:
        for mapping in sorted(maps, key=lambda m: m.path != "[vdso]"):
            if "x" not in mapping.permissions or not (mapping.path == "[vdso]" or _LIBC.search(mapping.path)):
                continue
            memory.seek(mapping.start)
            code = memory.read(min(mapping.end - mapping.start, 2 << 20))
            if not gadget and (at := code.find(b"\x0f\x05")) >= 0:
                gadget = mapping.start + at
            if not trap and (at := code.find(b"\xcc")) >= 0:
                trap = mapping.start + at
            if gadget and trap:
                return gadget, trap
    raise Unsuited(f"no system call instruction was found in process {pid}: start the job with `torchtop run` instead")


def _candidates(pid: int, maps: list[proc.Mapping]) -> list[tuple[Path, int]]:
    """Files that may hold the interpreter, readable from here, with the address at which each begins."""
    starts = _first_mappings(maps)
    executable = os.readlink(proc.PROC / str(pid) / "exe")
    found = [(proc.inside(pid, path), starts[path]) for path in starts if "libpython" in os.path.basename(path)]
    # The link still leads to the file after an upgrade has replaced it.
    return found + [(proc.PROC / str(pid) / "exe", starts[executable])] if executable in starts else found


def _first_mappings(maps: list[proc.Mapping]) -> dict[str, int]:
    starts: dict[str, int] = {}
    for mapping in maps:
        if mapping.path.startswith("/"):
            starts.setdefault(mapping.path, mapping.start)
    return starts


def _symbols(file: Path, names: tuple[str, ...]) -> dict[str, int]:
    try:
        facts = file.stat()
        return _cached_symbols(str(file), names, facts.st_dev, facts.st_ino, facts.st_mtime_ns)
    except (OSError, ValueError):
        return {}


@lru_cache(maxsize=64)
def _cached_symbols(file: str, names: tuple[str, ...], device: int, inode: int, changed_ns: int) -> dict[str, int]:
    return dynamic_symbols(Path(file), names)
