"""Where exported symbols lie in a 64-bit ELF file. Source: elf(5), ELF-64 Object File Format 1.5.

Only `.dynsym` is read: libpython and a static `python` both export the C API there, stripped or not.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Collection
from pathlib import Path

_PT_LOAD = 1
_SHT_DYNSYM = 11
X86_64 = 62  # e_machine
_SYMBOL = struct.Struct("<IBBHQQ")


def machine(path: Path) -> int | None:
    """What processor the file is for (e_machine), None when it is no ELF file. OSError when unreadable."""
    with path.open("rb") as file:
        header = file.read(20)
    if len(header) < 20 or header[:4] != b"\x7fELF":
        return None
    return int.from_bytes(header[18:20], "big" if header[5] == 2 else "little")


def dynamic_symbols(path: Path, wanted: Collection[str]) -> dict[str, int]:
    """Return name -> offset from the load address for the `wanted` symbols that the file defines.

    Raises OSError when unreadable, ValueError when it is no 64-bit little-endian ELF file.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
        if image[:6] != b"\x7fELF\x02\x01":
            raise ValueError(f"{path} is not a 64-bit little-endian ELF file")
        first_load = _first_load_address(image)
        found: dict[str, int] = {}
        for (table, size), (strings, strings_size) in _dynsym_sections(image):
            # Names are looked for in the string table first: unpacking 3,000 symbols one by one would take longer
            # than the rest of an attach. A name may also be the tail of a longer one (merged strings).
            block = image[strings : strings + strings_size]
            names = {at.start(): name for name in wanted for at in re.finditer(re.escape(name.encode()) + b"\0", block)}
            for name_at, _info, _other, section, value, _size in _SYMBOL.iter_unpack(image[table : table + size]):
                if name_at in names and value and section:
                    found[names[name_at]] = value - first_load
        return found


def _first_load_address(image: mmap.mmap) -> int:
    """The page-aligned virtual address that the first mapping of the file stands for."""
    (table,) = struct.unpack_from("<Q", image, 32)
    (count,) = struct.unpack_from("<H", image, 56)
    for index in range(count):
        kind, _flags, _offset, address, _paddr, _filesz, _memsz, align = struct.unpack_from(
            "<IIQQQQQQ", image, table + 56 * index
        )
        if kind == _PT_LOAD:
            return int(address & ~(align - 1 if align else 0))
    raise ValueError("ELF file without a loadable segment")


def _dynsym_sections(image: mmap.mmap) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """(offset, size) of each dynamic symbol table, and of its strings."""
    (table,) = struct.unpack_from("<Q", image, 40)
    (count,) = struct.unpack_from("<H", image, 60)
    found = []
    for index in range(count):
        header = struct.unpack_from("<IIQQQQIIQQ", image, table + 64 * index)
        if header[1] == _SHT_DYNSYM:
            linked = struct.unpack_from("<IIQQQQIIQQ", image, table + 64 * header[6])
            found.append(((header[4], header[5]), (linked[4], linked[5])))
    return found
