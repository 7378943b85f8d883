import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import server.audio.decoders
from server.audio.decode import Bounds
from server.audio.decoders import Source, ThreadDecoders
from server.errors import AudioTimeoutError, MemoryFullError, RequestTooLargeError
from server.memory import Memory
from tests.server.process import noise, wav

RATE = 16_000
BOUNDS = Bounds(RATE, 400, 600 * RATE)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def source(seconds: float) -> Source:
    data = wav(noise(seconds))
    return Source(None, lambda: data)


def test_the_bytes_of_a_clip_are_held(threads: ThreadPoolExecutor) -> None:
    memory = Memory("audio", 1 << 20)
    decoders = ThreadDecoders(threads, seconds=60)
    with memory.hold() as hold:
        clip = asyncio.run(decoders.decode(source(3), BOUNDS, hold))
        np.testing.assert_array_equal(clip, noise(3))
        assert memory.held == clip.nbytes
    assert memory.held == 0


def test_a_file_that_does_not_fit_is_refused_while_it_is_decoded(threads: ThreadPoolExecutor) -> None:
    memory = Memory("audio", 1 << 20)  # 16 s
    decoders = ThreadDecoders(threads, seconds=60)
    with memory.hold() as hold, pytest.raises(RequestTooLargeError):
        asyncio.run(decoders.decode(source(17), BOUNDS, hold))
    with memory.hold() as other, memory.hold() as hold:
        other.take(1 << 19)
        with pytest.raises(MemoryFullError):
            asyncio.run(decoders.decode(source(9), BOUNDS, hold))
        assert memory.held <= 1 << 20
    assert memory.held == 0


def test_a_file_that_takes_too_long(threads: ThreadPoolExecutor) -> None:
    decoders = ThreadDecoders(threads, seconds=1e-9)
    with Memory("audio", 1 << 20).hold() as hold, pytest.raises(AudioTimeoutError, match="longer than 1e-09 s"):
        asyncio.run(decoders.decode(source(1), BOUNDS, hold))


def test_what_a_thread_decodes_for_a_request_that_has_ended_is_given_up(threads: ThreadPoolExecutor) -> None:
    reading, ended, read = threading.Event(), threading.Event(), []
    data = wav(noise(500, 1_000), 1_000)  # 8 million samples at the rate of the bounds

    def wait_and_read() -> bytes:
        reading.set()
        assert ended.wait(30)
        read.append(True)
        return data

    memory = Memory("audio", 1 << 30)

    async def run() -> None:
        with memory.hold() as hold:
            decoders = ThreadDecoders(threads, seconds=60)
            tasks = [asyncio.create_task(decoders.decode(Source(None, wait_and_read), BOUNDS, hold)) for _ in range(5)]
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

    def hang() -> bytes:
        assert told.wait(30)
        return wav(noise(1))

    decoders = ThreadDecoders(threads, 0.01, on_hung)
    with Memory("audio", 1 << 20).hold() as hold:
        asyncio.run(decoders.decode(Source(None, hang), BOUNDS, hold))
    assert names == ["libsndfile"]
    assert "a file is decoded for" in caplog.text
