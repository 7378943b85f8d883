import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from engines.engine import Engine
from engines.errors import EngineTamperedError
from server.calibration import Calibration
from server.errors import ApiError
from server.models.loading import Loader, tell_limits
from server.models.model import Served
from server.settings import Settings
from tests.server.process import noise
from tests.server.scheduling.fakes import plan

DEMO = Path(__file__).parents[3] / "demo" / "engines"
WRITER, ENCODER = "hubert-translate-english-german", "hubert-intent-english"


def test_what_the_operator_lowers_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    tell_limits("any", plan(beams=4, max_length=101).generation, Settings(max_tokens=100, max_beams=4))
    assert not caplog.messages
    tell_limits("any", plan(beams=4, max_length=101).generation, Settings(max_tokens=50, max_beams=2))
    assert caplog.messages == [
        "model any: by default up to 50 tokens, not the checkpoint's 100",
        "model any: by default up to 2 beams, not the checkpoint's 4",
    ]


def run(settings: Settings, test: Callable[[Loader], Awaitable[None]]) -> None:
    async def limited() -> None:
        loader = Loader(settings)
        await asyncio.wait_for(test(loader), 120)
        loader.close()

    asyncio.run(limited())


async def refuse(served: Served, measured: Calibration) -> None:
    raise AssertionError(f"{served.engine.name} is to be served in {measured.form}")


@pytest.mark.parametrize("name", [WRITER, ENCODER])
def test_what_is_loaded_is_verified_and_runs_as_set(tmp_path: Path, name: str) -> None:
    async def test(loader: Loader) -> None:
        engine = loader.read(name, DEMO / name)
        served = await loader.load(engine)
        assert served.engine is engine
        assert (served.text is not None) == (name == WRITER)
        assert all(check.ok for checks in engine.checks.values() for check in checks)
        assert served.calibration
        assert (served.calibration.threads, served.calibration.workers) == (1, 3)
        limits = served.scheduler._limits
        assert (limits.workers, limits.live_beams, limits.live_seconds) == (3, 5, 50)
        assert limits.fixed_seconds == 0  # not measured
        assert limits.seconds_per_second == engine.seconds_per_second
        files = {file for graph in engine.graphs if graph.name in engine.checks for file in graph.sha256}
        assert served.file_bytes == sum((DEMO / name / file).stat().st_size for file in files)
        await loader.unload(served)
        assert not engine._sessions

    run(Settings(cache=tmp_path, threads=1, workers=3, live_beams=5, live_seconds=50), test)


@pytest.mark.parametrize(("measured", "expected"), [(None, 64), (12, 12)])
def test_beams_at_a_time_are_as_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: int | None, expected: int
) -> None:
    async def test(loader: Loader) -> None:
        found = replace(Calibration.default(), live_beams=measured)
        monkeypatch.setattr(loader._calibrator, "find", lambda engine, measured: found)
        served = await loader.load(loader.read(ENCODER, DEMO / ENCODER))
        assert served.scheduler._limits.live_beams == expected
        await loader.unload(served)

    run(Settings(cache=tmp_path, threads=1), test)


def test_of_what_cannot_be_loaded_nothing_is_left(tmp_path: Path) -> None:
    broken = Path(shutil.copytree(DEMO / WRITER, tmp_path / WRITER))
    with (broken / "fp32.step.weights").open("ab") as file:
        file.write(b"\0")

    async def test(loader: Loader) -> None:
        engine = loader.read(WRITER, broken)
        with pytest.raises(EngineTamperedError):
            await loader.load(engine)
        assert engine.start_graph.name in engine.checks  # that was loaded before
        assert not engine._sessions

    run(Settings(cache=tmp_path), test)


def test_a_calibration_holds_from_now_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = replace(Calibration.default(), workers=3, batch_seconds=7.0)

    async def test(loader: Loader) -> None:
        served, other = [await loader.load(loader.read(name, DEMO / ENCODER)) for name in ("one", "other")]

        async def measure(
            engines: Callable[[], Iterable[Engine]],
            idle: Callable[[], bool],
            apply: Callable[[Engine, Calibration], Awaitable[None]],
        ) -> None:
            assert list(engines()) == [served.engine, other.engine]
            assert idle()
            await apply(served.engine, found)

        monkeypatch.setattr(loader._calibrator, "run", measure)
        await loader.calibrate(lambda: [served, other], lambda: True, refuse)
        assert served.calibration == found
        assert other.calibration != found
        assert (served.scheduler._limits.workers, served.scheduler._limits.batch_seconds) == (3, 7.0)
        job = served.scheduler.submit([noise(1)], ["pooled"])[0]
        assert not isinstance(await job.future, ApiError)
        await loader.unload(served)
        await loader.unload(other)

    run(Settings(cache=tmp_path), test)


def test_a_request_between_two_looks_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(loader: Loader) -> None:
        served = await loader.load(loader.read("one", DEMO / ENCODER))

        async def measure(engines: object, idle: Callable[[], bool], apply: object) -> None:
            assert [idle(), idle()] == [True, True]
            with served.lease():
                pass
            assert [idle(), idle()] == [False, True]

        monkeypatch.setattr(loader._calibrator, "run", measure)
        await loader.calibrate(lambda: [served], lambda: True, refuse)
        await loader.unload(served)

    run(Settings(cache=tmp_path), test)


def test_other_threads_wait_for_the_next_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(loader: Loader) -> None:
        served = await loader.load(loader.read("one", DEMO / ENCODER))
        loaded = served.calibration
        assert loaded is not None
        found = replace(loaded, threads=loaded.threads + 1, workers=3, batch_seconds=7.0)

        async def measure(
            engines: object, idle: object, apply: Callable[[Engine, Calibration], Awaitable[None]]
        ) -> None:
            await apply(served.engine, found)

        monkeypatch.setattr(loader._calibrator, "run", measure)
        await loader.calibrate(lambda: [served], lambda: True, refuse)
        assert served.calibration == replace(loaded, batch_seconds=7.0)
        await loader.unload(served)

    run(Settings(cache=tmp_path), test)
