"""The libraries that a shared library needs, as its file says: ELF of 64 bits, little-endian (elf(5)).

To load it would say no more than the first that is missing.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

MAGIC = b"\x7fELF\x02\x01"  # of 64 bits, little-endian
# Of the header: where the table of segments begins, and how large and how many its entries are.
TABLE_AT, SIZES_AT = 0x20, 0x36
SEGMENT = struct.Struct("<IIQQQQQQ")  # type, flags, offset, address, physical address, size in the file, in memory, ...
ENTRY = struct.Struct("<qQ")  # of the dynamic section: what, and its value
LOAD, DYNAMIC = 1, 2  # PT_
END, NEEDED, STRINGS = 0, 1, 5  # DT_NULL, DT_NEEDED, DT_STRTAB


def needed(path: Path) -> list[str]:
    """Return the names of the libraries that the one at `path` needs. Raises OSError or ValueError."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return list(_needed(data))
        except (struct.error, StopIteration) as error:
            raise ValueError(f"{path} is cut short") from error


def _needed(data: mmap.mmap) -> Iterator[str]:
    if data[: len(MAGIC)] != MAGIC:
        raise ValueError("it is no library of 64 bits")
    segments = list(_segments(data))
    _, _, begin, _, _, size, _, _ = next(one for one in segments if one[0] == DYNAMIC)
    entries = list(_entries(data, begin, size))
    address = next(value for what, value in entries if what == STRINGS)
    _, _, offset, start, _, _, _, _ = next(
        one for one in segments if one[0] == LOAD and one[3] <= address < one[3] + one[5]
    )
    strings = address - start + offset
    for what, value in entries:
        if what == NEEDED:
            yield data[strings + value : data.find(b"\0", strings + value)].decode()


def _segments(data: mmap.mmap) -> Iterator[tuple[int, ...]]:
    (table,) = struct.unpack_from("<Q", data, TABLE_AT)
    size, count = struct.unpack_from("<HH", data, SIZES_AT)
    for number in range(count):
        yield SEGMENT.unpack_from(data, table + number * size)


def _entries(data: mmap.mmap, begin: int, size: int) -> Iterator[tuple[int, int]]:
    for at in range(begin, begin + size, ENTRY.size):
        what, value = ENTRY.unpack_from(data, at)
        if what == END:
            return
        yield what, value
