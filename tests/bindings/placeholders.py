"""Shared libraries of functions that return null: enough for Python bindings to be imported.

NVIDIA's bindings for TensorRT are a small wheel; the libraries behind them are gigabytes, and of no use without a GPU.
"""

from __future__ import annotations

import ctypes
import platform
import struct
from collections.abc import Sequence
from pathlib import Path

PAGE = 0x10000  # the largest of any kernel
HEADER, PROGRAM, SYMBOL = 64, 56, 24  # bytes of the structures of a 64-bit ELF file (ELF-64 Object File Format, 1.5)
EXECUTABLE, WRITABLE, READABLE = 1, 2, 4
LOAD, DYNAMIC, STACK = 1, 2, 0x6474E551
HASH, STRINGS, SYMBOLS, STRINGS_SIZE, SYMBOL_SIZE, NAME = 4, 5, 6, 10, 11, 14
# By machine: its number in an ELF file, and "return 0".
MACHINES = {
    "x86_64": (62, b"\x31\xc0\xc3"),
    "aarch64": (183, b"\x00\x00\x80\xd2\xc0\x03\x5f\xd6"),
}


def write(path: Path, functions: Sequence[str]) -> Path:
    """Write a library that has these functions; its file is named as those that link to it ask for it."""
    number, code = MACHINES[platform.machine()]
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in (path.name, *functions))
    places = {name: strings.index(b"\0" + name.encode() + b"\0") + 1 for name in (path.name, *functions)}
    count = len(functions) + 1  # the first symbol stands for none
    hash_at = HEADER + 4 * PROGRAM
    # One bucket, in which each symbol is followed by the next.
    table = struct.pack(f"<II{1 + count}I", 1, count, 1, 0, *range(2, count), 0)
    symbols_at = _aligned(hash_at + len(table))
    code_at = symbols_at + count * SYMBOL
    strings_at = _aligned(code_at + len(code))
    symbols = bytes(SYMBOL) + b"".join(
        struct.pack("<IBBHQQ", places[name], 0x12, 0, 1, code_at, len(code)) for name in functions
    )
    end = strings_at + len(strings)
    dynamic = b"".join(
        struct.pack("<QQ", tag, value)
        for tag, value in (
            (HASH, hash_at),
            (STRINGS, strings_at),
            (SYMBOLS, symbols_at),
            (STRINGS_SIZE, len(strings)),
            (SYMBOL_SIZE, SYMBOL),
            (NAME, places[path.name]),
            (0, 0),
        )
    )
    image = bytearray(PAGE + len(dynamic))
    parts = [
        (0, struct.pack("<16sHHIQQQIHHHHHH", _magic(), 3, number, 1, 0, HEADER, 0, 0, HEADER, PROGRAM, 4, 0, 0, 0)),
        (HEADER, _program(LOAD, READABLE | EXECUTABLE, 0, end, PAGE)),
        (HEADER + PROGRAM, _program(LOAD, READABLE | WRITABLE, PAGE, len(dynamic), PAGE)),
        (HEADER + 2 * PROGRAM, _program(DYNAMIC, READABLE | WRITABLE, PAGE, len(dynamic), 8)),
        (HEADER + 3 * PROGRAM, _program(STACK, READABLE | WRITABLE, 0, 0, 16)),
        (hash_at, table),
        (symbols_at, symbols),
        (code_at, code),
        (strings_at, strings),
        (PAGE, dynamic),
    ]
    for place, data in parts:
        image[place : place + len(data)] = data
    path.write_bytes(image)
    return path


def load(path: Path) -> None:
    """Load a library, so that whatever is loaded later and asks for one of its name finds it."""
    ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)


def _magic() -> bytes:
    return b"\x7fELF" + bytes((2, 1, 1))  # 64 bits, little-endian, version 1


def _program(kind: int, flags: int, place: int, size: int, alignment: int) -> bytes:
    return struct.pack("<IIQQQQQQ", kind, flags, place, place, place, size, size, alignment)


def _aligned(place: int) -> int:
    return -(-place // 8) * 8
