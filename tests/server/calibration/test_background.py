from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from engines.engine import Engine
from engines.runtimes import RuntimeOptions
from server.calibration import Calibration, FormTime, background
from server.calibration.background import Calibrator
from server.calibration.cache import Cache, Entry, key_of
from server.settings import Settings
from tests.server.models.two_forms import place
from tests.server.process import serving

ENGINE = Path(__file__).parents[3] / "demo" / "engines" / "hubert-ctc-english"
FOUND = Calibration(1, 1, 7.0, 0.001, 0.02, 1e6, 2e3, "2026-01-01T00:00:00+00:00")
LONG = 60.0

# In place of the measuring process: they get its arguments, and write their process id down.
BEGIN = "import os, pathlib, sys, time; pathlib.Path({marks!r}, str(os.getpid())).write_text(' '.join(sys.argv)); "
ANSWER = BEGIN + "print(pathlib.Path({answer!r}).read_text())"
WAIT = BEGIN + "time.sleep(600)"
FAIL = BEGIN + "sys.exit('it went wrong')"
TALK = BEGIN + "print('no JSON')"


@dataclass
class Bench:
    """A calibrator with another process in place of the measuring one."""

    folder: Path
    settings: Settings
    engine: Engine
    applied: list[Calibration] = field(default_factory=list)
    started: list[int] = field(default_factory=list)
    busy: bool = False

    def run(self, script: str, until: Callable[[], bool]) -> None:
        """Calibrate with `script` until something is so."""
        code = script.format(marks=str(self.folder / "marks"), answer=str(self.folder / "answer"))

        async def start(*command: str, **pipes: Any) -> asyncio.subprocess.Process:
            assert command[:4] == (sys.executable, "-I", "-c", background.PROGRAM.format(path=sys.path))
            process = await execute(sys.executable, "-c", code, *command[4:], **pipes)
            self.started.append(process.pid)  # here, since one that is stopped at once writes nothing down
            return process

        async def main() -> None:
            calibrator = Calibrator(self.settings)

            async def apply(engine: Engine, calibration: Calibration) -> None:
                self.applied.append(calibration)

            task = asyncio.create_task(calibrator.run(lambda: [self.engine], lambda: not self.busy, apply))
            await waiting(until)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()

        execute = asyncio.create_subprocess_exec
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("server.calibration.background.asyncio.create_subprocess_exec", start)
            asyncio.run(main())


async def refuse(engine: Engine, calibration: Calibration) -> None:
    raise AssertionError(f"{engine.name} is given {calibration}")


async def waiting(until: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not until():
        assert time.monotonic() < end, "nothing happens"
        await asyncio.sleep(0.02)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Bench:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(background, "QUIET_SECONDS", 0.1)
    monkeypatch.setattr(background, "LOOK_SECONDS", 0.01)
    (tmp_path / "marks").mkdir()
    settings = Settings(cache=tmp_path / "cache", device="cpu")
    made = Bench(tmp_path, settings, Engine(ENGINE))
    key = key_of(made.engine, settings.options("any"), 0)
    data = FOUND.__dict__
    (tmp_path / "answer").write_text(json.dumps({"key": key, "calibration": data}))
    return made


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_is_measured_is_applied_and_kept(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.run(ANSWER, lambda: bool(bench.applied) and any((bench.folder / "cache").rglob("*.json")))
    assert bench.applied == [FOUND]
    [mark] = (bench.folder / "marks").iterdir()
    arguments = mark.read_text().split()
    assert arguments[1:4] == ["calibrate", str(ENGINE), "--attached"]
    assert {"--device=cpu", "--threads=0", "--workers=0", "--precision=auto", "--max-error=0.0001"} <= set(arguments)
    found = Calibrator(bench.settings).find(bench.engine)
    assert found == FOUND
    assert "measured on this host" in caplog.text


def test_the_form_that_was_found_is_put_in_use_and_what_was_left_out_is_said(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = place(tmp_path / "models")
    bench.settings = Settings(cache=tmp_path / "cache", device="cpu", model_errors={"any": 1.0})
    bench.engine = Engine(folder, "any", bench.settings.options("any"))
    left_out = FormTime("onnxruntime/int8", reason="it is broken")
    found = replace(FOUND, form="onnxruntime/fp32", forms=(left_out,))
    key = key_of(bench.engine, bench.settings.options("any"), 0)
    data = Entry(key=key, calibration=found).model_dump_json()
    (tmp_path / "answer").write_text(data)
    bench.run(ANSWER, lambda: any((bench.folder / "cache").rglob("*.json")))
    assert bench.applied == [found]
    assert "model any: onnxruntime/int8 was left out: it is broken" in caplog.text
    [mark] = (bench.folder / "marks").iterdir()
    assert "--max-error=1.0" in mark.read_text().split()
    again = Engine(folder, "any", bench.settings.options("any"))
    assert again.form.name == "onnxruntime/int8"
    assert Calibrator(bench.settings).find(again) == found
    assert again.form.name == "onnxruntime/fp32"


def test_memory_is_counted_for_one_form_at_a_time(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(place(tmp_path / "models"), options=RuntimeOptions("cpu", max_error=1.0))
    one = max(engine.file_bytes(form.graphs) for form in engine.forms.usable)
    assert one < engine.file_bytes(engine.graphs)
    monkeypatch.setattr("engines.host.free_memory", lambda: int(background.COPIES * one))
    background._check_memory(engine, 0)
    monkeypatch.setattr("engines.host.free_memory", lambda: int(background.COPIES * one) - 1)
    with pytest.raises(RuntimeError, match="free memory"):
        background._check_memory(engine, 0)


def test_what_is_found_is_not_measured_again(bench: Bench) -> None:
    Cache(bench.folder / "cache").write(json.loads((bench.folder / "answer").read_text())["key"], FOUND)

    async def main() -> None:
        calibrator = Calibrator(bench.settings)
        assert calibrator.find(bench.engine) == FOUND
        task = asyncio.create_task(calibrator.run(lambda: [bench.engine], lambda: True, refuse))
        await asyncio.sleep(0.5)  # five times as long as it waits
        task.cancel()

    asyncio.run(main())
    assert not bench.started


def test_what_the_operator_has_set_holds_in_the_end(bench: Bench) -> None:
    bench.settings = Settings(cache=bench.folder / "cache", device="cpu", batch_seconds=3)
    bench.run(ANSWER, lambda: bool(bench.applied))
    assert bench.applied == [replace(FOUND, batch_seconds=3)]


def test_a_request_stops_the_measurement_and_it_is_tried_again(bench: Bench) -> None:
    def until() -> bool:
        bench.busy = len(bench.started) == 1 and alive(bench.started[0])
        return len(bench.started) > 1

    bench.run(WAIT, until)
    assert not bench.applied
    assert not any(alive(process) for process in bench.started)


def test_the_measurement_is_given_up_where_there_are_always_requests(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waited, given_up = list[float](), list[float]()

    async def quiet(idle: Callable[[], bool], seconds: float) -> None:
        waited.append(seconds)

    def until() -> bool:
        bench.busy = any(alive(process) for process in bench.started)
        given_up.extend([time.monotonic()] if "there are always requests" in caplog.text and not given_up else [])
        return bool(given_up) and time.monotonic() > given_up[0] + 0.5  # five times as long as it waits

    monkeypatch.setattr(background, "TRIES", 3)
    monkeypatch.setattr(background, "_quiet", quiet)
    bench.run(WAIT, until)
    assert len(bench.started) == 3
    assert waited == [pytest.approx(seconds) for seconds in (0.1, 0.2, 0.4)]


def test_one_that_is_interrupted_lets_others_go_first(bench: Bench) -> None:
    calibrator, other = Calibrator(bench.settings), Engine(ENGINE)
    both = lambda: [bench.engine, other]  # noqa: E731
    assert calibrator._next(both) is bench.engine
    calibrator._interrupt(bench.engine)
    assert calibrator._next(both) is other


def test_no_module_of_the_working_directory_is_run(tmp_path: Path) -> None:
    (tmp_path / "sonant.py").write_text("raise SystemExit('found in the working directory')")
    code = background.PROGRAM.format(path=[path for path in sys.path if path])
    command = [sys.executable, "-I", "-c", code, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_nothing_is_measured_while_requests_come(bench: Bench) -> None:
    bench.busy = True
    end = time.monotonic() + 0.5  # five times as long as it waits
    bench.run(WAIT, lambda: time.monotonic() > end)
    assert not bench.started


@pytest.mark.parametrize(
    ("script", "reason"),
    [(FAIL, "status 1: it went wrong"), (TALK, "cannot be read"), ("syntax error", "SyntaxError: invalid syntax")],
)
def test_a_measurement_that_fails_is_said_once(
    script: str, reason: str, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def warned() -> list[logging.LogRecord]:
        return [each for each in caplog.records if each.levelno >= logging.WARNING]

    seen: list[float] = []

    def until() -> bool:
        seen.extend([time.monotonic()] if warned() and not seen else [])
        return bool(seen) and time.monotonic() > seen[0] + 0.5

    bench.run(script, until)
    [record] = warned()
    assert reason in record.getMessage()
    assert not bench.applied
    assert Calibrator(bench.settings).find(bench.engine) == Calibration.default()


def test_the_measurement_of_another_engine_is_refused(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    data = json.loads((bench.folder / "answer").read_text())
    data["key"]["graphs"] = {"fp32.onnx": "0" * 64}
    (bench.folder / "answer").write_text(json.dumps(data))
    bench.run(ANSWER, lambda: "is another by now" in caplog.text)
    assert not bench.applied


def test_without_memory_for_a_second_copy_nothing_is_started(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("engines.host.free_memory", lambda: 1000)
    bench.run(ANSWER, lambda: "free memory" in caplog.text)
    assert not bench.started


def test_without_memory_on_the_gpu_nothing_is_started(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Engine, "device", "cuda")
    monkeypatch.setattr("engines.runtimes.cuda.free_memory", lambda number: background.CONTEXT_BYTES)
    bench.run(ANSWER, lambda: "free GPU memory" in caplog.text)
    assert not bench.started


def test_a_cache_that_cannot_be_written_is_said(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    (bench.folder / "cache").write_text("a file")
    bench.run(ANSWER, lambda: "cannot be kept" in caplog.text)
    assert bench.applied == [FOUND]


def test_it_can_be_turned_off(bench: Bench) -> None:
    settings = Settings(cache=bench.folder, calibrate="off")
    asyncio.run(Calibrator(settings).run(lambda: [bench.engine], lambda: True, refuse))


# A server that dies while it measures.
DYING = """
import asyncio, os, pathlib, sys
from server.calibration import background
from server.calibration.background import Calibrator
from server.settings import Settings
from engines.engine import Engine

background.QUIET_SECONDS = 0.1
execute = asyncio.create_subprocess_exec

async def start(*command, **pipes):
    process = await execute(*command, **pipes)
    print(process.pid, flush=True)
    await asyncio.sleep(1)
    os._exit(9)

asyncio.create_subprocess_exec = start
calibrator = Calibrator(Settings(cache=pathlib.Path(sys.argv[2])))
engine = Engine(pathlib.Path(sys.argv[1]))
asyncio.run(calibrator.run(lambda: [engine], lambda: True, lambda *_: None))
"""


def test_the_real_measurement_ends_with_the_server(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DYING, str(ENGINE), str(tmp_path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=LONG, cwd=ENGINE.parents[2])
    assert done.returncode == 9
    process, end = int(done.stdout), time.monotonic() + LONG
    while alive(process):
        assert time.monotonic() < end, "it outlives the server"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_server_calibrates_itself_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "one").symlink_to(ENGINE)
    with serving(tmp_path / "models", calibrate="background", cache=str(tmp_path / "cache")) as server:

        def calibration() -> Any:
            return server.client.get("/v1/models/one").json()["calibration"]

        assert calibration()["measured"] is None
        end = time.monotonic() + 300
        while calibration()["measured"] is None:
            assert time.monotonic() < end, server.log
            time.sleep(0.5)
        found = calibration()
        assert server.client.get("/health/ready").status_code == 200
    assert found["threads"] == 1  # as the server was told
    assert 0 < found["seconds_per_second"] < 1
    with serving(tmp_path / "models", calibrate="off", cache=str(tmp_path / "cache")) as server:
        assert server.client.get("/v1/models/one").json()["calibration"] == found
