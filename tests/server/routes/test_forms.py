import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.errors import (
    BodyInvalidError,
    MediaTypeError,
    OptionError,
    RequestTooLargeError,
    TooManyClipsError,
    TooManyFieldsError,
)
from server.memory import Memory
from server.routes.forms import MAX_FIELD_BYTES, Form, read_form
from server.routes.uploads import Uploads
from server.spool import MAX_UPLOAD_BYTES_IN_MEMORY, Spool

TYPE = "multipart/form-data; boundary=B"
LARGE = bytes(range(256)) * (MAX_UPLOAD_BYTES_IN_MEMORY // 256 + 1)


def part(disposition: str, data: bytes) -> bytes:
    return f"--B\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + data + b"\r\n"


def read(folder: Path, body: bytes, size: int = 65536, content_type: str = TYPE, room: float = math.inf) -> Form:
    """Read `body` as it arrives in pieces of `size` bytes."""

    async def arriving() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            memory.take(len(body[start : start + size]))
            yield body[start : start + size]

    spool, memory = Spool(folder, room), Memory("request bodies", math.inf).hold()
    try:
        return asyncio.run(read_form(content_type, arriving(), Uploads(spool, memory, spool.hold()), 4, 3))
    finally:
        spool.close()


def contents(form: Form) -> list[tuple[str, bytes]]:
    return [(name, upload.open().read()) for name, upload in form.files]


@pytest.mark.parametrize("size", [1, 7, 65536, 1 << 30])
def test_texts_and_files_in_their_order(tmp_path: Path, size: int) -> None:
    body = part('name="model"', b"tiny") + part('name="file"; filename="a.wav"', b"\r\n--BB\r\n--")
    body += part('name="file"; filename=""', b"") + part('name="m\xc3\xb6"', "ö".encode()) + b"--B--\r\nbehind"
    form = read(tmp_path, body, size)
    assert [form.texts[0], form.texts[1][1]] == [("model", "tiny"), "ö"]
    assert contents(form) == [("file", b"\r\n--BB\r\n--"), ("file", b"")]


@pytest.mark.parametrize("size", [60_000, 1 << 30])
def test_large_files_among_small_ones(tmp_path: Path, size: int) -> None:
    files = [b"small", LARGE + b"first", LARGE[::-1]]
    body = b"".join(part(f'name="file"; filename="{index}"', data) for index, data in enumerate(files))
    form = read(tmp_path, body + b"--B--", size)
    assert contents(form) == [("file", data) for data in files]
    assert [type(upload.open()).__name__ for _, upload in form.files] == ["BytesIO", "Part", "Part"]
    assert form.files[1][1].open().fileno() == form.files[2][1].open().fileno()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", BodyInvalidError),
        (b"rubbish", BodyInvalidError),
        (b"--C--", BodyInvalidError),
        (part('name="file"; filename="a"', b"x"), BodyInvalidError),
        (part('filename="a"', b"x") + b"--B--", BodyInvalidError),
        (b"--B\r\n" + b"x: y\r\n" * 100 + b"\r\n--B--", BodyInvalidError),
        (b"--B\r\nx: " + b"y" * 100_000 + b"\r\n\r\n--B--", BodyInvalidError),
        (part('name="model"', bytes(MAX_FIELD_BYTES + 1)) + b"--B--", OptionError),
        (part('name="a"', b"") * 5 + b"--B--", TooManyFieldsError),
        (part('name="a"; filename="a"', b"") * 4 + b"--B--", TooManyClipsError),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        read(tmp_path, body)


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=", TYPE + "x" * 300])
def test_a_boundary_that_cannot_be(tmp_path: Path, content_type: str) -> None:
    with pytest.raises(BodyInvalidError):
        read(tmp_path, part('name="a"', b"") + b"--B--", content_type=content_type)


def test_another_charset(tmp_path: Path) -> None:
    with pytest.raises(MediaTypeError):
        read(tmp_path, b"--B--", content_type=TYPE + "; charset=utf-7")


def test_files_that_do_not_fit_on_the_disk(tmp_path: Path) -> None:
    with pytest.raises(RequestTooLargeError, match="audio on the disk"):
        read(tmp_path, part('name="file"; filename="a"', LARGE) + b"--B--", room=MAX_UPLOAD_BYTES_IN_MEMORY)
