import asyncio
import io
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from engines.batch import Clip, Row
from engines.engine import Engine
from engines.errors import EngineNotFoundError
from engines.manifest import Output
from server.audio.decoders import Source
from server.errors import (
    AudioTooLongError,
    AudioUndecodableError,
    EngineFailedError,
    MemoryFullError,
    RequestTooLargeError,
)
from server.kept import Kept
from server.models.model import Served
from server.scheduling.limits import Limits
from server.scheduling.scheduler import Scheduler
from server.service import Service
from server.settings import Settings
from server.steps import Steps, at_once
from server.windows import Geometry, Window
from tests.server.process import noise, wav
from tests.server.scheduling.fakes import FakeEngine
from tests.server.tasks.manifests import manifest

RATE = 16_000


@dataclass
class FakeTask:
    """What the service asks of a task."""

    kept: Kept
    windowed: bool = False
    reduce: Callable[[Window], Row] | None = None
    geometry: Geometry = Geometry(30 * RATE, shortest=400)  # noqa: RUF009  # it is frozen

    @property
    def outputs(self) -> Sequence[str]:
        return self.kept.outputs


def double(window: Window) -> Row:
    return {"b": 2 * window.row["a"]}


MEAN = FakeTask(Kept(["a"]))
FRAMES = FakeTask(Kept(["embeddings"]))  # 51 frames of 4 values each second: 816 bytes


class FakeWithManifest(FakeEngine):
    """What the service asks of an engine; its only output is the mean of the clip."""

    name = "fake"
    manifest = manifest()
    manifest = manifest.model_copy(update={"outputs": (*manifest.outputs, Output(name="a", shape=("batch", 1)))})


@pytest.fixture
def engine() -> Iterator[FakeWithManifest]:
    fake = FakeWithManifest()
    yield fake
    fake.gate.set()


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(Settings(models=tmp_path))


def served(engine: FakeWithManifest) -> Served:
    limits = Limits(queue_seconds=1000, batch_seconds=1, max_padding=0.1, live_beams=8)
    return Served(cast(Engine, engine), Scheduler("fake", engine, RATE, limits))


def bad() -> io.BytesIO:
    return io.BytesIO(b"bad")


def source(seconds: float, value: float, index: int = 0) -> Source:
    data = wav(np.full(round(seconds * RATE), value, np.float32))
    return Source(f"file[{index}]", lambda: io.BytesIO(data))


def test_each_clip_gets_its_row_and_duration(service: Service, engine: FakeWithManifest) -> None:
    async def run() -> None:
        timings: dict[str, float] = {}
        rows = await service.run(served(engine), MEAN, [source(1, 0.25), source(2, 0.5)], timings, service.answer())
        assert [float(row.windows[0].row["a"][0]) for row in rows] == [0.25, 0.5]
        assert [row.duration for row in rows] == [1, 2]
        assert set(timings) == {"decode", "queue", "inference"}
        assert min(timings.values()) >= 0

    asyncio.run(run())


def test_a_clip_that_may_be_windowed_is_cut_and_what_is_kept_of_each_window_comes_in_order(
    service: Service, engine: FakeWithManifest
) -> None:
    async def run() -> None:
        sources = [source(1, 0.25), source(70, 0.5, index=1)]
        task = FakeTask(Kept(["a"]), windowed=True, reduce=double)
        short, long = await service.run(served(engine), task, sources, {}, service.answer())
        assert short.windows[0].row["b"] == 0.5
        assert [window.span.kept for window in long.windows] == [30 * RATE, 30 * RATE, 10 * RATE]
        assert [float(window.row["b"][0]) for window in long.windows] == [1, 1, 1]
        assert long.duration == 70
        with pytest.raises(AudioTooLongError) as caught:
            await service.run(served(engine), MEAN, sources, {}, service.answer())
        assert caught.value.param == "file[1]"

    asyncio.run(run())


def test_the_outputs_of_a_window_are_gone_when_they_are_reduced(service: Service, engine: FakeWithManifest) -> None:
    original, most = engine.run, 0
    arrays: list[weakref.ref[np.ndarray]] = []

    def run_and_watch(clips: Sequence[Clip], outputs: Sequence[str]) -> list[Row]:
        nonlocal most
        time.sleep(0.005)  # the window before is reduced meanwhile
        rows = original(clips, outputs)
        arrays.extend(weakref.ref(row["a"]) for row in rows)
        most = max(most, sum(array() is not None for array in arrays))
        return rows

    engine.run = run_and_watch  # type: ignore[method-assign]

    async def run() -> None:
        task = FakeTask(Kept(["a"]), windowed=True, reduce=double)
        await service.run(served(engine), task, [source(590, 0.5)], {}, service.answer())

    asyncio.run(run())
    assert len(arrays) == 20
    assert most <= 5


def test_one_bad_source_fails_before_anything_runs(service: Service, engine: FakeWithManifest) -> None:
    sources = [source(1, 0.1), Source("file[1]", bad), Source("file[2]", bad), source(1, 0.1)]

    async def run() -> None:
        with pytest.raises(AudioUndecodableError) as caught:
            await service.run(served(engine), MEAN, sources, {}, service.answer())
        assert caught.value.param == "file[1]"

    asyncio.run(run())
    assert engine.calls == []


def test_a_clip_that_fails_in_the_engine_is_named_and_the_rest_is_dropped(
    service: Service, engine: FakeWithManifest
) -> None:
    def fault(clips: list[object]) -> None:
        raise RuntimeError

    engine.fault = fault  # type: ignore[assignment]

    async def run() -> None:
        target = served(engine)
        with pytest.raises(EngineFailedError) as caught:
            await service.run(target, MEAN, [source(1, 0.1, index) for index in range(20)], {}, service.answer())
        assert caught.value.param == "file[0]"
        await target.scheduler.close()

    asyncio.run(run())
    assert len(engine.calls) <= 2


def test_clips_of_a_cancelled_request_do_not_run(service: Service, engine: FakeWithManifest) -> None:
    engine.gate.clear()

    async def run() -> None:
        target = served(engine)
        sources = [source(1, 0.1, index) for index in range(20)]
        request = asyncio.create_task(service.run(target, MEAN, sources, {}, service.answer()))
        while not engine.calls:  # noqa: ASYNC110  # they come from another thread
            await asyncio.sleep(0.001)
        request.cancel()
        await asyncio.wait([request])
        engine.gate.set()
        await target.scheduler.close()

    asyncio.run(run())
    assert len(engine.calls) == 1


def test_a_request_that_is_cancelled_while_it_decodes_leaves_nothing(
    service: Service, engine: FakeWithManifest
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait_and_open() -> io.BytesIO:
        begun.set()
        assert go_on.wait(60)
        return io.BytesIO(wav(noise(5)))

    async def run() -> None:
        target = served(engine)
        sources = [Source(None, wait_and_open) for _ in range(20)]
        request = asyncio.create_task(service.run(target, MEAN, sources, {}, service.answer()))
        assert await asyncio.to_thread(begun.wait, 60)
        request.cancel()
        go_on.set()
        await asyncio.wait([request])
        await target.scheduler.close()

    asyncio.run(run())
    assert engine.calls == []


def test_the_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(EngineNotFoundError):
        Service(Settings(models=tmp_path / "nowhere"))


def test_decoded_audio_is_held_until_the_engine_has_run_it(tmp_path: Path, engine: FakeWithManifest) -> None:
    service = Service(Settings(models=tmp_path, decoded_bytes=4 * 3 * RATE))

    async def run() -> None:
        target = served(engine)
        engine.gate.clear()
        first = asyncio.create_task(service.run(target, MEAN, [source(2, 0.1)], {}, service.answer()))
        while not engine.calls:  # noqa: ASYNC110  # they come from another thread
            await asyncio.sleep(0.001)
        with pytest.raises(MemoryFullError):
            await service.run(target, MEAN, [source(2, 0.1)], {}, service.answer())
        engine.gate.set()
        await first
        with pytest.raises(RequestTooLargeError):
            await service.run(target, MEAN, [source(2, 0.1, index) for index in range(2)], {}, service.answer())
        assert len(await service.run(target, MEAN, [source(2, 0.1)], {}, service.answer())) == 1
        await target.scheduler.close()

    asyncio.run(run())


def test_a_request_that_fails_or_is_cancelled_gives_its_memory_back(tmp_path: Path, engine: FakeWithManifest) -> None:
    service = Service(Settings(models=tmp_path, decoded_bytes=4 * 3 * RATE))

    async def run() -> None:
        target = served(engine)
        for _ in range(3):
            with pytest.raises(AudioUndecodableError):
                await service.run(target, MEAN, [source(2, 0.1), Source(None, bad)], {}, service.answer())
        engine.gate.clear()
        request = asyncio.create_task(service.run(target, MEAN, [source(2, 0.1)], {}, service.answer()))
        while not engine.calls:  # noqa: ASYNC110  # they come from another thread
            await asyncio.sleep(0.001)
        request.cancel()
        await asyncio.wait([request])
        engine.gate.set()
        assert len(await service.run(target, MEAN, [source(2, 0.1)], {}, service.answer())) == 1
        await target.scheduler.close()

    asyncio.run(run())


def test_an_answer_that_does_not_fit_is_refused_before_anything_runs(tmp_path: Path, engine: FakeWithManifest) -> None:
    service = Service(Settings(models=tmp_path, answer_bytes=1000))

    async def run() -> None:
        target = served(engine)
        with service.answer() as answer, pytest.raises(RequestTooLargeError, match="fewer clips"):
            await service.run(target, FRAMES, [source(1, 0.1), source(1, 0.1)], {}, answer)
        with service.answer() as other, service.answer() as answer:
            other.take(500)
            with pytest.raises(MemoryFullError):
                await service.run(target, FRAMES, [source(1, 0.1)], {}, answer)
        assert engine.calls == []
        with service.answer() as answer:
            await service.run(target, MEAN, [source(1, 0.1)], {}, answer)
            answer.take(900)
        await target.scheduler.close()

    asyncio.run(run())


def test_answers_do_not_wait_for_decoding(service: Service, engine: FakeWithManifest) -> None:
    answered = threading.Event()

    def wait_and_open() -> io.BytesIO:
        assert answered.wait(30)
        return bad()

    async def run() -> None:
        sources = [Source(None, wait_and_open) for _ in range(5)]
        request = asyncio.create_task(service.run(served(engine), MEAN, sources, {}, service.answer()))
        await asyncio.sleep(0.01)
        await service.offload(answered.set)
        with pytest.raises(AudioUndecodableError):
            await request

    asyncio.run(run())


def test_what_takes_several_steps_leaves_a_thread_to_what_is_quick(service: Service) -> None:
    """As many as there are threads for answers, and more, wait in a step for something that is quick."""
    begun, quick = threading.Event(), threading.Event()
    at_work = []

    def slow() -> Steps[str]:
        yield
        at_work.append(threading.current_thread())
        begun.set()
        assert quick.wait(30)
        return "done"

    async def run() -> None:
        slows = [asyncio.create_task(service.offload_steps(slow())) for _ in range(5)]
        assert await asyncio.to_thread(begun.wait, 30)
        await service.offload(lambda: None)
        assert len(at_work) == 1
        quick.set()
        assert await asyncio.gather(*slows) == ["done"] * 5

    asyncio.run(run())


def test_steps_take_turns(service: Service) -> None:
    seen: list[str] = []

    def noting(name: str) -> Steps[None]:
        for _ in range(3):
            yield
            seen.append(name)

    async def run() -> None:
        await asyncio.gather(service.offload_steps(noting("a")), service.offload_steps(noting("b")))

    asyncio.run(run())
    assert sorted(seen[:2]) == sorted(seen[2:4]) == ["a", "b"]


def test_steps_that_nobody_waits_for_end(service: Service) -> None:
    taken: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def long() -> Steps[None]:
        yield
        while True:
            taken.append(1)
            begun.set()
            assert go_on.wait(30)
            yield

    def finite() -> Steps[str]:
        yield
        return "done"

    async def run() -> None:
        task = asyncio.create_task(service.offload_steps(long()))
        assert await asyncio.to_thread(begun.wait, 30)
        other = asyncio.create_task(service.offload_steps(finite()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await service.offload_steps(at_once(lambda: None))  # has a thread, since the turn is not over
        assert not other.done()
        go_on.set()
        assert await other == "done"
        assert len(taken) == 1

    asyncio.run(run())
