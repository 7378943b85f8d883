"""Audio files that are damaged at random: seeded, endless, of every format that is read."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import soundfile
from numpy.typing import NDArray

FORMATS = (
    ("WAV", "PCM_16"),
    ("WAV", "PCM_U8"),
    ("WAV", "PCM_24"),
    ("WAV", "FLOAT"),
    ("WAV", "ULAW"),
    ("WAV", "MS_ADPCM"),
    ("WAV", "IMA_ADPCM"),
    ("WAV", "GSM610"),
    ("WAVEX", "PCM_16"),
    ("RF64", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
    ("AIFF", "PCM_16"),
    ("AIFF", "FLOAT"),
)
# Where nearly all of what a decoder believes stands.
HEADER_BYTES = 160
# At the limits of the integers that headers are made of.
VALUES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

Mutation = Callable[[bytearray, np.random.Generator], None]


def originals(seconds: float = 0.4, rate: int = 16_000) -> list[bytes]:
    """Return one good file of each of FORMATS, mono and stereo in turn; GSM has one channel only."""
    generator = np.random.default_rng(0)
    files = []
    for index, (format_, subtype) in enumerate(FORMATS):
        channels = 1 if subtype == "GSM610" else 1 + index % 2
        samples = 0.3 * generator.standard_normal((round(seconds * rate), channels))
        files.append(encoded(samples.astype(np.float32), rate, format_, subtype))
    return files


def encoded(samples: NDArray[np.float32], rate: int, format_: str, subtype: str) -> bytes:
    """Return `samples` [frames, channels] as a file."""
    file = io.BytesIO()
    soundfile.write(file, np.clip(samples, -0.99, 0.99), rate, format=format_, subtype=subtype)
    return file.getvalue()


def damaged(files: Sequence[bytes], seed: int = 0) -> Iterator[bytes]:
    """Yield copies of `files`, each damaged in one to six ways, without end; the same ones for the same `seed`."""
    generator = np.random.default_rng(seed)
    while True:
        data = bytearray(files[int(generator.integers(len(files)))])
        for _ in range(generator.integers(1, 7)):
            MUTATIONS[int(generator.integers(len(MUTATIONS)))](data, generator)
        yield bytes(data)


def _at(data: bytearray, generator: np.random.Generator) -> int:
    """Return a place in `data`: in every other case in its header."""
    size = min(len(data), HEADER_BYTES) if generator.random() < 0.5 else len(data)
    return int(generator.integers(size)) if size else 0


def _set_byte(data: bytearray, generator: np.random.Generator) -> None:
    at = _at(data, generator)
    data[at : at + 1] = bytes([generator.integers(256)])


def _flip_bit(data: bytearray, generator: np.random.Generator) -> None:
    at = _at(data, generator)
    data[at : at + 1] = bytes(byte ^ 1 << int(generator.integers(8)) for byte in data[at : at + 1])


def _set_number(data: bytearray, generator: np.random.Generator) -> None:
    """Put an integer at its limits in place of two or four bytes."""
    at = _at(data, generator) & ~1
    order = "<>"[generator.integers(2)]
    value = VALUES[generator.integers(len(VALUES))]
    number = struct.pack(order + "I", value) if generator.random() < 0.7 else struct.pack(order + "H", value & 0xFFFF)
    data[at : at + len(number)] = number


def _cut_off(data: bytearray, generator: np.random.Generator) -> None:
    del data[_at(data, generator) :]


def _remove(data: bytearray, generator: np.random.Generator) -> None:
    at = _at(data, generator)
    del data[at : at + int(generator.integers(1, 64))]


def _insert(data: bytearray, generator: np.random.Generator) -> None:
    at = _at(data, generator)
    data[at:at] = generator.bytes(int(generator.integers(1, 64)))


def _repeat(data: bytearray, generator: np.random.Generator) -> None:
    """Put a piece of the file somewhere else in it: a second header, a page of a stream that does not follow."""
    start, at = _at(data, generator), _at(data, generator)
    data[at:at] = data[start : start + int(generator.integers(1, 2048))]


def _fill(data: bytearray, generator: np.random.Generator) -> None:
    at, size = _at(data, generator), int(generator.integers(1, 256))
    data[at : at + size] = bytes([generator.choice([0, 0xFF, 0x80])]) * len(data[at : at + size])


MUTATIONS: Sequence[Mutation] = (
    _set_byte,
    _flip_bit,
    _set_number,
    _set_number,
    _cut_off,
    _remove,
    _insert,
    _repeat,
    _fill,
)
