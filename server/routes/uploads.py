"""Uploaded files as they arrive: in memory, and what is larger on the disk."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TypeVar

from server.audio.decode import AudioFile
from server.memory import Hold
from server.spool import MAX_UPLOAD_BYTES_IN_MEMORY, Part, Spool, SpoolFile

T = TypeVar("T")


class Uploads:
    """Those of one request: they share a file, since each takes a descriptor."""

    def __init__(self, spool: Spool, memory: Hold, disk: Hold) -> None:
        """`memory` holds their bytes as they arrive; what is written to `spool` is taken from `disk` instead."""
        self._spool = spool
        self._memory = memory
        self._disk = disk
        self._file: SpoolFile | None = None

    def new(self) -> Upload:
        """Return the next upload; the one before it is complete."""
        return Upload(self)

    async def read(self, body: AsyncIterator[bytes]) -> Upload:
        """Return `body` as an upload. Raises as SpoolFile.append does."""
        upload = self.new()
        async for data in body:
            upload.add(data)
            await upload.store()
        await upload.complete()
        return upload

    async def write(self, data: bytearray) -> tuple[SpoolFile, int]:
        """Move `data` from memory to the file; return that and where they stand. Raises as SpoolFile.append does."""
        if self._file is None:
            self._file = await self._run(partial(self._spool.file, self._disk))
        start = self._file.size
        # What a cancelled request leaves to the thread is its own: nobody changes or closes it meanwhile.
        await self._run(partial(self._file.append, data))
        self._memory.take(-len(data))
        return self._file, start

    async def _run(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._spool.threads, function)


class Upload:
    """One file."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self._data = bytearray()  # what has not been written
        self._written: tuple[SpoolFile, int] | None = None  # to where, from where on
        self._size = 0

    def add(self, data: bytes) -> None:
        """Append `data`; to be followed by `store` or `complete`."""
        self._data += data
        self._size += len(data)

    async def store(self) -> None:
        """Write what is too much for memory. Raises as SpoolFile.append does."""
        if len(self._data) > MAX_UPLOAD_BYTES_IN_MEMORY:
            await self._write()

    async def complete(self) -> None:
        """Take note of the end. Raises as SpoolFile.append does."""
        await self.store()
        if self._written is not None and self._data:
            await self._write()

    @property
    def spooled(self) -> int:
        """Bytes in the spool."""
        return self._size if self._written is not None else 0

    def open(self) -> AudioFile:
        """Return it as a file that is read from its beginning."""
        if self._written is None:
            return io.BytesIO(self._data)
        file, start = self._written
        return Part(file, start, self._size)

    async def _write(self) -> None:
        data, self._data = self._data, bytearray()
        written = await self._uploads.write(data)
        self._written = self._written or written
