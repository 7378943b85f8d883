import asyncio
import io
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from server.audio import parent
from server.audio.clips import ClipHold, ClipWriter
from server.audio.decode import Bounds, decode
from server.audio.decoders import Source
from server.audio.processes import ProcessDecoders
from server.errors import (
    ApiError,
    AudioError,
    AudioTimeoutError,
    AudioUndecodableError,
    DecoderUnavailableError,
    MemoryFullError,
    RequestTooLargeError,
    StorageError,
)
from server.memory import Memory, ReleasedError
from server.spool import Part, Spool
from tests.server.audio.holding import clips
from tests.server.audio.mutations import damaged, originals
from tests.server.process import Server, noise, serving, wav

RATE = 16_000
BOUNDS = Bounds(RATE, 400, 600 * RATE)
ENGINE = Path(__file__).parents[3] / "demo/engines/sew-commands-english"
SOON = 60  # seconds, for what takes one on an idle machine


@contextmanager
def running(processes: int = 1, seconds: float = SOON) -> Iterator[ProcessDecoders]:
    decoders = ProcessDecoders(processes, seconds)
    try:
        yield decoders
    finally:
        asyncio.run(decoders.close())


@pytest.fixture
def decoders() -> Iterator[ProcessDecoders]:
    with running() as found:
        yield found


def children(of: int | None = None) -> list[int]:
    """Return the process ids of the decoders of the process `of`."""
    tasks = Path(f"/proc/{of or os.getpid()}/task").iterdir()
    found = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return [child for child in found if b"import main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def only_child(of: int | None = None) -> int:
    """Return the one decoder of the process `of`, which may have been started just now."""
    until(lambda: len(children(of)) == 1)
    return children(of)[0]


def entries(folder: str) -> list[str]:
    return [entry.name for entry in Path(folder).iterdir()]


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def decoded(
    decoders: ProcessDecoders, data: bytes, hold: ClipHold | None = None, bounds: Bounds = BOUNDS
) -> np.ndarray:
    with clips().hold() as own:
        return asyncio.run(decoders.decode(Source(None, lambda: io.BytesIO(data)), bounds, hold or own))


def in_a_thread(data: bytes) -> np.ndarray:
    """Return the clip as the threads decode it; raises what they do."""
    return np.concatenate([block.copy() for block in decode(io.BytesIO(data), BOUNDS)])


class Signalling(ClipHold):
    """Sends `number` to the decoders when they have decoded the first 16 s, for the first `times`."""

    def __init__(self, number: signal.Signals, times: int = parent.MAX_CRASHES, memory: Memory | None = None) -> None:
        super().__init__((memory or Memory("audio", 1 << 30)).hold(), Spool(Path(tempfile.gettempdir()), 1 << 30))
        self.number = number
        self.times = times

    def new(self) -> ClipWriter:
        writer = super().new()
        write = writer.write

        def write_and_signal(block: np.ndarray) -> None:
            write(block)
            if self.times > 0:
                self.times -= 1
                for child in children():
                    os.kill(child, self.number)

        writer.write = write_and_signal  # type: ignore[method-assign]
        return writer


def test_a_clip_is_that_of_the_threads(decoders: ProcessDecoders) -> None:
    for data in [*originals(), wav(noise(140)), wav(noise(5, 44_100), 44_100)]:  # 140 s: mapped
        np.testing.assert_array_equal(decoded(decoders, data), in_a_thread(data))


def test_a_long_clip_lives_and_dies_with_its_array(decoders: ProcessDecoders) -> None:
    assert len(decoded(decoders, wav(noise(1)))) == RATE  # its process has been started
    before = len(entries("/proc/self/fd"))
    clips = [decoded(decoders, wav(noise(140, seed=seed))) for seed in range(3)]
    for seed, clip in enumerate(clips):
        np.testing.assert_array_equal(clip[100:], noise(140, seed=seed)[100:])
    del clip
    clips.clear()
    assert len(entries("/proc/self/fd")) == before


def test_an_hour_takes_no_memory(decoders: ProcessDecoders, tmp_path: Path) -> None:
    def peak_kib() -> int:
        status = Path(f"/proc/{only_child()}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))

    path = tmp_path / "hour.flac"
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16", format="FLAC") as file:
        for _ in range(360):
            file.write(np.zeros(10 * RATE, np.float32))
    assert len(decoded(decoders, wav(noise(20)))) == 20 * RATE
    before = peak_kib()
    with clips(max_bytes=1 << 24).hold() as hold:
        source = Source(None, lambda: path.open("rb"))
        clip = asyncio.run(decoders.decode(source, Bounds(RATE, 400, 3600 * RATE), hold))
    assert clip.shape == (3600 * RATE,)
    assert not clip[::1000].any()
    assert peak_kib() - before < 8 * 1024  # the clip has 230 MB


def test_uploads_are_read_where_they_are(decoders: ProcessDecoders, tmp_path: Path) -> None:
    spool, files = Spool(tmp_path, 1 << 30), [wav(noise(1)), wav(noise(2))]
    with spool.hold() as disk, clips().hold() as hold:
        whole = spool.file(disk)
        for data in files:
            whole.append(data)
        starts = (0, len(files[0]))
        for index, (start, data) in enumerate(zip(starts, files, strict=True), 1):
            source = Source(None, partial(Part, whole, start, len(data)))
            np.testing.assert_array_equal(asyncio.run(decoders.decode(source, BOUNDS, hold)), noise(index))


def test_a_file_that_cannot_be_read_fails_alone(decoders: ProcessDecoders) -> None:
    child = only_child()
    read, write = os.pipe()
    with os.fdopen(read, "rb") as pipe, clips().hold() as hold:
        source = Source(None, lambda: Part(pipe, 0, 100))  # a pipe has no places
        with pytest.raises(StorageError, match="cannot be read: Illegal seek"):
            asyncio.run(decoders.decode(source, BOUNDS, hold))
    os.close(write)
    assert only_child() == child


def test_damaged_files_fail_as_in_the_threads(decoders: ProcessDecoders) -> None:
    child = only_child()
    for data in [b"", *islice(damaged(originals(), seed=11), 150)]:
        expected: AudioError | None = None
        try:
            clip = in_a_thread(data)
        except AudioError as error:
            expected = error
        if expected is None:
            np.testing.assert_array_equal(decoded(decoders, data), clip)
        else:
            with pytest.raises(type(expected)) as caught:
                decoded(decoders, data)
            assert caught.value.message == expected.message
    assert only_child() == child


def test_memory_is_asked_for_while_a_file_is_decoded(decoders: ProcessDecoders) -> None:
    child = only_child()
    memory = clips(1 << 21)
    with memory.hold() as hold:
        assert len(decoded(decoders, wav(noise(3)), hold)) == 3 * RATE
        assert memory.held == 4 * 3 * RATE
        with pytest.raises(RequestTooLargeError):
            decoded(decoders, wav(noise(40)), hold)
    with memory.hold() as other, memory.hold() as hold:
        assert len(decoded(decoders, wav(noise(31)), other)) == 31 * RATE
        with pytest.raises(MemoryFullError):
            decoded(decoders, wav(noise(3)), hold)
    assert memory.held == 0
    assert only_child() == child  # it was told, not killed
    assert len(decoded(decoders, wav(noise(2)))) == 2 * RATE


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL, signal.SIGXCPU])
def test_a_crash_fails_only_the_file_that_caused_it(
    decoders: ProcessDecoders, number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    child = only_child()
    with Signalling(number) as hold, pytest.raises(AudioUndecodableError, match="the decoder crashed"):
        decoded(decoders, wav(noise(20)), hold)
    assert only_child() != child
    assert f"exit status {-number}" in caplog.text
    np.testing.assert_array_equal(decoded(decoders, wav(noise(2))), noise(2))


def test_a_file_whose_process_is_killed_once_is_decoded_by_the_next(decoders: ProcessDecoders) -> None:
    child = only_child()
    memory = Memory("audio", 1 << 30)
    with Signalling(signal.SIGKILL, times=1, memory=memory) as hold:
        np.testing.assert_array_equal(decoded(decoders, wav(noise(20)), hold), noise(20))
        assert memory.held == 4 * 20 * RATE  # nothing of what the first one took
    assert only_child() != child


@pytest.mark.parametrize("is_dead", [True, False], ids=["dead", "dying"])
def test_a_process_that_died_without_a_file_harms_none(decoders: ProcessDecoders, is_dead: bool) -> None:
    for _ in range(3):
        child = only_child()
        os.kill(child, signal.SIGKILL)
        if is_dead:
            until(lambda: not children())
        assert len(decoded(decoders, wav(noise(2)))) == 2 * RATE
        assert only_child() != child


def test_a_process_that_does_not_take_a_file_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    with running() as decoders:
        child = only_child()
        assert len(decoded(decoders, wav(noise(1)))) == RATE
        monkeypatch.setattr(parent, "TAKE_SECONDS", 0.5)
        os.kill(child, signal.SIGSTOP)
        assert len(decoded(decoders, wav(noise(1)))) == RATE
        assert only_child() != child


def test_processes_that_die_before_they_take_a_file_are_replaced(
    decoders: ProcessDecoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    give, count = parent._Process.give, 0

    def kill_and_give(process: parent._Process, *arguments: Any) -> None:
        nonlocal count
        count += 1
        if count <= 4:
            process.kill()
        give(process, *arguments)

    monkeypatch.setattr(parent._Process, "give", kill_and_give)
    assert len(decoded(decoders, wav(noise(1)))) == RATE
    assert count == 5


def test_a_process_that_never_gets_ready_does_not_hold_a_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "CHILD", "tests.server.audio.sleeper")
    with running() as decoders:
        child = only_child()
        decoders._decoders[0]._start_seconds = 1.0
        with pytest.raises(DecoderUnavailableError):
            decoded(decoders, wav(noise(1)))
        assert only_child() != child
        monkeypatch.setattr(parent, "CHILD", "server.audio.child")
        decoders._decoders[0]._start_seconds = SOON
        os.kill(only_child(), signal.SIGKILL)
        assert len(decoded(decoders, wav(noise(1)))) == RATE


def test_nobody_starts_processes_for_a_request_that_has_ended(
    decoders: ProcessDecoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = 0
    with clips().hold() as hold:

        def give(process: parent._Process, *arguments: Any) -> None:
            nonlocal starts
            starts += 1
            hold.release()
            raise ConnectionError

        monkeypatch.setattr(parent._Process, "give", give)
        with pytest.raises(ReleasedError):
            decoded(decoders, wav(noise(1)), hold)
    assert starts == 1


def test_a_file_that_takes_too_long_is_ended() -> None:
    with running(seconds=2) as decoders:
        child = only_child()
        with Signalling(signal.SIGSTOP, times=1) as hold, pytest.raises(AudioTimeoutError, match="longer than 2 s"):
            decoded(decoders, wav(noise(20)), hold)
        assert only_child() != child


def test_nothing_is_left_of_processes_that_crash(decoders: ProcessDecoders) -> None:
    def things() -> tuple[int, int]:
        assert len(decoded(decoders, wav(noise(1)))) == RATE  # the process has been started
        return len(entries("/proc/self/fd")), len(entries("/dev/shm"))  # noqa: S108

    before = things()
    for _ in range(8):
        with Signalling(signal.SIGKILL) as hold, pytest.raises(AudioUndecodableError):
            decoded(decoders, wav(noise(140)), hold)
    assert things() == before


def test_what_is_cancelled_is_not_handed_to_the_next(decoders: ProcessDecoders) -> None:
    asked = threading.Event()

    class Watching(Signalling):
        def new(self) -> ClipWriter:
            asked.set()
            return super().new()

    async def run() -> np.ndarray:
        long, short = (wav(noise(seconds)) for seconds in (200, 2))
        with Watching(signal.SIGCONT) as hold:
            task = asyncio.create_task(decoders.decode(Source(None, lambda: io.BytesIO(long)), BOUNDS, hold))
            await asyncio.to_thread(asked.wait, SOON)
            task.cancel()
            await asyncio.wait([task])
        with clips().hold() as hold:
            return await decoders.decode(Source(None, lambda: io.BytesIO(short)), BOUNDS, hold)

    np.testing.assert_array_equal(asyncio.run(run()), noise(2))


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff\x00",
        b"[]",
        b"{}",
        b'{"samples": 500}',
        b'{"samples": 0, "is_last": true}',
        b'{"samples": -1, "is_last": false}',
        b'{"samples": 399, "is_last": true}',
        b'{"samples": 262145, "is_last": true}',
        b'{"samples": 1000000000000, "is_last": true}',
        b'{"samples": 1e400, "is_last": true}',
        b'{"samples": "500", "is_last": true}',
        b'{"samples": 500, "is_last": 1}',
        b'{"code": "internal_error", "message": "x"}',
        b'{"samples": 500, "is_last": true, "more": 1}',
        b'{"samples": 1' + b" " * 5000,
        pickle.dumps({"samples": 500, "is_last": True}),
        b"",
    ],
)
def test_an_answer_that_is_nonsense_is_a_crash(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    monkeypatch.setattr(parent, "CHILD", "tests.server.audio.liar")
    with running() as decoders:
        with pytest.raises(AudioUndecodableError, match="the decoder crashed"):
            decoded(decoders, answer)
        clip = decoded(decoders, b'{"samples": 500, "is_last": true}')
        assert clip.shape == (500,)  # of zeros: nothing was written


def test_a_process_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "CHILD", "server.nothing")
    with running() as decoders, pytest.raises(DecoderUnavailableError) as caught:
        decoded(decoders, wav(noise(1)))
    assert caught.value.status == 503


def test_closing_gives_up_what_is_decoded() -> None:
    async def run() -> None:
        decoders = ProcessDecoders(1, SOON)
        with clips().hold() as hold:
            source = Source(None, lambda: io.BytesIO(wav(noise(200))))
            tasks = [asyncio.create_task(decoders.decode(source, BOUNDS, hold)) for _ in range(3)]
            until(children)
            await asyncio.sleep(0.1)
            await decoders.close()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        # cancelled where it had not begun
        assert all(isinstance(one, ApiError | asyncio.CancelledError | np.ndarray) for one in outcomes)

    asyncio.run(run())
    assert children() == []


def test_a_process_has_limits_and_no_secrets(decoders: ProcessDecoders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    with Signalling(signal.SIGKILL) as hold, pytest.raises(AudioUndecodableError):
        decoded(decoders, wav(noise(20)), hold)
    assert len(decoded(decoders, wav(noise(1)))) == RATE
    child = only_child()
    limits = Path(f"/proc/{child}/limits").read_text()
    for name in ("Max cpu time", "Max address space", "Max core file size", "Max open files"):
        [line] = [line for line in limits.splitlines() if line.startswith(name)]
        assert line.removeprefix(name).split()[0] != "unlimited"
    assert b"hunter2" not in Path(f"/proc/{child}/environ").read_bytes()
    assert {"0", "1", "2"} <= set(entries(f"/proc/{child}/fd"))
    assert len(entries(f"/proc/{child}/fd")) <= 6  # the socket, what errors are printed to


def test_a_process_imports_only_what_decoding_needs() -> None:
    code = "import sys, server.audio.child; print({'fastapi', 'starlette', 'pydantic', 'asyncio'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(ENGINE, folder / ENGINE.name)
    with serving(folder, decoders=1, decode_timeout=5, calibrate="off") as found:
        yield found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_an_idle_decoder_that_is_killed_or_stopped_costs_no_request(server: Server, number: signal.Signals) -> None:
    for _ in range(3):
        child = only_child(server.process.pid)
        os.kill(child, number)
        assert server.client.post("/v1/classify", content=wav(noise(1))).status_code == 200
        assert only_child(server.process.pid) != child


def crash_those_with_files(server: Server, answer: Future[httpx.Response]) -> None:
    """Crash every decoder of `server` that is at work on a file, until there is an answer."""
    while not answer.done():
        for child in children(server.process.pid):
            with suppress(OSError):  # it has ended meanwhile
                files = Path(f"/proc/{child}/fd")
                if any("memfd:sonant" in str(link.readlink()) for link in files.iterdir()):
                    time.sleep(0.02)  # it says that it has taken it
                    os.kill(child, signal.SIGSEGV)
        time.sleep(0.005)


def test_a_crash_in_the_real_server_is_one_400(server: Server) -> None:
    long = wav(np.zeros(3600 * 8_000, np.float32), 8_000, "FLAC", "PCM_16")  # it takes a while
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(
            server.client.post, "/v1/classify?windows=auto", files=[("file", ("a.wav", long))], timeout=SOON
        )
        crash_those_with_files(server, answer)
        assert server.error(answer.result()) == (400, "audio_undecodable", "file[0]")
    assert server.client.post("/v1/classify", content=wav(noise(1))).status_code == 200
    assert only_child(server.process.pid)


def test_decoders_die_with_the_server(server: Server) -> None:
    child = Path(f"/proc/{only_child(server.process.pid)}")
    server.process.kill()
    until(lambda: not child.exists())
