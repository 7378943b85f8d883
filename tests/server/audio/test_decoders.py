import asyncio
import io
import os
import struct
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import server.audio.decoders
from server.audio.clips import MAX_BYTES_IN_MEMORY
from server.audio.decode import Bounds
from server.audio.decoders import Source, ThreadDecoders, TimeLimit
from server.errors import AudioTimeoutError, MemoryFullError, RequestTooLargeError, StorageError
from server.spool import forget
from tests.server.audio.holding import clips
from tests.server.process import noise, wav

RATE = 16_000
BOUNDS = Bounds(RATE, 400, 600 * RATE)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def source(seconds: float) -> Source:
    data = wav(noise(seconds))
    return Source(None, lambda: io.BytesIO(data))


def test_the_bytes_of_a_clip_are_held(threads: ThreadPoolExecutor) -> None:
    memory = clips(1 << 20)
    decoders = ThreadDecoders(threads, seconds=60)
    with memory.hold() as hold:
        clip = asyncio.run(decoders.decode(source(3), BOUNDS, hold))
        np.testing.assert_array_equal(clip, noise(3))
        assert memory.held == clip.nbytes
    assert memory.held == 0


def test_a_file_that_does_not_fit_is_refused_while_it_is_decoded(threads: ThreadPoolExecutor) -> None:
    memory = clips(1 << 20)  # 16 s
    decoders = ThreadDecoders(threads, seconds=60)
    with memory.hold() as hold, pytest.raises(RequestTooLargeError):
        asyncio.run(decoders.decode(source(17), BOUNDS, hold))
    with memory.hold() as other, memory.hold() as hold:
        other.new().write(np.zeros(1 << 17, np.float32))
        with pytest.raises(MemoryFullError):
            asyncio.run(decoders.decode(source(9), BOUNDS, hold))
        assert memory.held <= 1 << 20
    assert memory.held == 0


def test_an_hour_takes_no_memory(threads: ThreadPoolExecutor, tmp_path: Path) -> None:
    path = tmp_path / "hour.wav"
    path.write_bytes(wav(np.zeros(0, np.float32), subtype="PCM_16"))
    os.truncate(path, 44 + 3600 * RATE * 2)  # zeros that take no disk
    with path.open("r+b") as file:
        file.write(b"RIFF" + struct.pack("<I", 36 + 3600 * RATE * 2))
        file.seek(40)
        file.write(struct.pack("<I", 3600 * RATE * 2))
    room = clips(1 << 24)
    decoders = ThreadDecoders(threads, seconds=60)
    with room.hold() as hold:
        tracemalloc.start()
        try:
            task = decoders.decode(Source(None, lambda: path.open("rb")), Bounds(RATE, 400, 4 * 3600 * RATE), hold)
            clip = asyncio.run(task)
            assert tracemalloc.get_traced_memory()[1] < 2 * MAX_BYTES_IN_MEMORY
        finally:
            tracemalloc.stop()
        assert clip.shape == (3600 * RATE,)
        assert room.held == 0
        for start in range(0, len(clip), 60 * RATE):
            assert not clip[start : start + 60 * RATE].any()
            forget(clip[start : start + 60 * RATE])


def test_a_file_that_cannot_be_opened(threads: ThreadPoolExecutor, tmp_path: Path) -> None:
    decoders = ThreadDecoders(threads, seconds=60)
    with clips().hold() as hold, pytest.raises(StorageError, match="cannot be read: No such file or directory"):
        asyncio.run(decoders.decode(Source(None, lambda: (tmp_path / "none").open("rb")), BOUNDS, hold))


def test_long_audio_may_take_longer() -> None:
    limit = TimeLimit(10, RATE)
    assert 9 < limit.left <= 10
    limit.add(3600 * RATE)
    assert 189 < limit.left <= 190


def test_a_file_that_takes_too_long(threads: ThreadPoolExecutor) -> None:
    decoders = ThreadDecoders(threads, seconds=1e-9)
    with clips().hold() as hold, pytest.raises(AudioTimeoutError, match="longer than 1e-09 s"):
        asyncio.run(decoders.decode(source(1), BOUNDS, hold))


def test_what_a_thread_decodes_for_a_request_that_has_ended_is_given_up(threads: ThreadPoolExecutor) -> None:
    reading, ended, read = threading.Event(), threading.Event(), []
    data = wav(noise(500, 1_000), 1_000)  # 8 million samples at the rate of the bounds

    def wait_and_open() -> io.BytesIO:
        reading.set()
        assert ended.wait(30)
        read.append(True)
        return io.BytesIO(data)

    memory = clips(1 << 30)

    async def run() -> None:
        with memory.hold() as hold:
            decoders = ThreadDecoders(threads, seconds=60)
            tasks = [asyncio.create_task(decoders.decode(Source(None, wait_and_open), BOUNDS, hold)) for _ in range(5)]
            await asyncio.to_thread(reading.wait, 30)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    asyncio.run(run())
    ended.set()
    threads.shutdown(wait=True)
    assert len(read) <= 2  # those that had begun
    assert memory.held == 0


def test_a_thread_that_does_not_come_back_is_reported(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server.audio.decoders, "GRACE_SECONDS", 0.01)
    told, names = threading.Event(), []

    def on_hung(name: str, seconds: float) -> None:
        names.append(name)
        told.set()

    def hang() -> io.BytesIO:
        assert told.wait(30)
        return io.BytesIO(wav(noise(1)))

    decoders = ThreadDecoders(threads, 0.01, on_hung)
    with clips().hold() as hold:
        asyncio.run(decoders.decode(Source(None, hang), BOUNDS, hold))
    assert names == ["libsndfile"]
    assert "a block is decoded for" in caplog.text
