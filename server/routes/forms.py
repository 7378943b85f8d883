"""multipart/form-data as it arrives: texts, and files that may be large."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from server.errors import BodyInvalidError, MediaTypeError, OptionError, TooManyClipsError, TooManyFieldsError, quoted
from server.routes.uploads import Upload, Uploads

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

# Of one field that is not a file: no option takes as much.
MAX_FIELD_BYTES = 64 * 1024


@dataclass
class Form:
    """The fields of a form by name, in their order; a name may be repeated."""

    texts: list[tuple[str, str]] = field(default_factory=list)
    files: list[tuple[str, Upload]] = field(default_factory=list)


async def read_form(
    content_type: str, body: AsyncIterator[bytes], uploads: Uploads, max_texts: int, max_files: int
) -> Form:
    """Read the form in `body`. Its files stay with `uploads`.

    Raises MediaTypeError, BodyInvalidError, TooManyFieldsError, TooManyClipsError, OptionError, and what storing does.
    """
    options = parse_options_header(content_type)[1]
    _check_charset(options.get(b"charset", b"utf-8").decode("latin-1"))
    reader = _Reader(uploads, max_texts, max_files)
    try:
        parser = MultipartParser(options.get(b"boundary", b""), reader.callbacks)
        async for data in body:
            parser.write(data)
            await reader.store()
    except FormParserError as error:
        raise BodyInvalidError(f"the multipart body cannot be read: {error}") from None
    if not reader.is_complete:
        raise BodyInvalidError("the multipart body cannot be read: it has no end")
    return reader.form


def _check_charset(charset: str) -> None:
    """Raise MediaTypeError for a form in another charset than UTF-8.

    The client would choose among all of Python's codecs, of which some take minutes for a megabyte.
    """
    if charset.lower() not in ("utf-8", "utf8"):
        raise MediaTypeError(f"a form is read as UTF-8, not as {quoted(charset)}")


class _Reader:
    """Makes a form of what the parser tells, piece by piece: often of one part, but there may be many."""

    def __init__(self, uploads: Uploads, max_texts: int, max_files: int) -> None:
        self.form = Form()
        self.is_complete = False
        self._uploads = uploads
        self._max_texts = max_texts
        self._max_files = max_files
        self._header, self._value, self._disposition = bytearray(), bytearray(), b""
        self._name = ""
        self._text: bytearray | None = None  # of a part that is no file
        self._arrived: list[tuple[Upload, bytes | None]] = []  # of files; None: that was all

    @property
    def callbacks(self) -> MultipartCallbacks:
        """What the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._add,
            "on_part_end": self._end,
            "on_end": self._complete,
        }

    async def store(self) -> None:
        """Store what has arrived of files."""
        arrived, self._arrived = self._arrived, []
        for upload, data in arrived:
            if data is None:
                await upload.complete()
            else:
                upload.add(data)
                await upload.store()

    def _begin(self) -> None:
        self._disposition = b""

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _end_headers(self) -> None:
        options = parse_options_header(self._disposition.decode("latin-1"))[1]
        if b"name" not in options:
            raise BodyInvalidError("the multipart body cannot be read: a part has no name in its Content-Disposition")
        self._name = _text(options[b"name"])
        if b"filename" not in options:
            if len(self.form.texts) == self._max_texts:
                raise TooManyFieldsError(f"the form has more than {self._max_texts} fields")
            self._text = bytearray()
            return
        if len(self.form.files) == self._max_files:
            raise TooManyClipsError(f"the form has more than {self._max_files} files")
        self._text = None
        self.form.files.append((self._name, self._uploads.new()))

    def _add(self, data: bytes, start: int, end: int) -> None:
        if self._text is None:
            self._arrived.append((self.form.files[-1][1], data[start:end]))
        elif len(self._text) + end - start > MAX_FIELD_BYTES:
            raise OptionError(f"{quoted(self._name)} is no file, and has more than {MAX_FIELD_BYTES} bytes", self._name)
        else:
            self._text += data[start:end]

    def _end(self) -> None:
        if self._text is None:
            self._arrived.append((self.form.files[-1][1], None))
        else:
            self.form.texts.append((self._name, _text(self._text)))

    def _complete(self) -> None:
        self.is_complete = True


def _text(data: bytes | bytearray) -> str:
    """Return what a client wrote: as Latin-1 where it is not UTF-8, as other servers do."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")
