from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from engines.engine import Engine
from engines.runtimes import RuntimeOptions
from server.calibration import Calibration, FormTime
from server.calibration.cache import Cache, Entry, key_of
from server.calibration.decide import Cell, Setting
from server.calibration.measure import Measured
from sonant.terminal import print_measured
from tests.server.models.two_forms import place

ENGINES = Path(__file__).parents[3] / "demo" / "engines"
ENGINE = ENGINES / "hubert-ctc-english"


def sonant(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sonant.cli", "calibrate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)


def test_an_engine_is_measured_and_the_result_is_kept(tmp_path: Path) -> None:
    done = sonant(ENGINE, "--device=cpu", "--seconds=4", "--cache", tmp_path)
    assert done.returncode == 0, done.stderr
    found = Cache(tmp_path).read(key_of(Engine(ENGINE), RuntimeOptions("cpu"), 0))
    assert found is not None
    assert str(found) in " ".join(done.stdout.split())
    assert found.threads <= max(1, (os.cpu_count() or 1) - 1)
    # Some millions of parameters: between a thousandth and all of real time, between 0.2 and 20 MiB per second.
    assert 1e-4 < found.fixed_seconds + found.seconds_per_second < 1
    if sys.platform == "linux":
        assert 0.2 * 2**20 < found.row.of(1.0) < 20 * 2**20
    assert "a clip alone" in done.stdout
    assert "Memory of a row" in done.stderr


def test_attached_it_prints_the_entry_and_keeps_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sonant.cli", "calibrate", str(ENGINE), "--attached", "--seconds=1", "--threads=1"]
    command += ["--workers=1", "--cache", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        printed, errors = process.stdout.read(), process.stderr.read()
        assert process.wait(60) == 0, errors
    entry = Entry.model_validate_json(printed)
    assert entry.key == key_of(Engine(ENGINE), RuntimeOptions("auto", 1), 1)
    assert (entry.calibration.form, entry.calibration.forms) == ("onnxruntime/fp32", ())
    assert (entry.calibration.threads, entry.calibration.workers) == (1, 1)
    assert not list(tmp_path.iterdir())


def test_the_forms_within_the_bound_race(tmp_path: Path) -> None:
    engine = place(tmp_path / "engine")
    done = sonant(engine, "--device=cpu", "--seconds=1", "--threads=1", "--max-error=0.5", "--cache", tmp_path)
    assert done.returncode == 0, done.stderr
    options = RuntimeOptions("cpu", 1, max_error=0.5)
    found = Cache(tmp_path).read(key_of(Engine(engine, options=options), options, 0))
    assert found is not None
    assert found.form in {"onnxruntime/fp32", "onnxruntime/int8"}
    assert [each.form for each in found.forms] == ["onnxruntime/int8", "onnxruntime/fp32"]
    assert all(each.sentence_seconds > 0 and each.reason is None for each in found.forms)
    assert "a sentence" in done.stdout


def test_attached_it_ends_with_its_input() -> None:
    done = sonant(ENGINE, "--attached")
    assert done.returncode == 1
    assert not done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("/nowhere",), 1, "is not an engine"),
        ((ENGINE, "--seconds=0"), 2, "'0' is not a number of seconds above 0"),
        ((ENGINE, "--threads=few"), 2, "'few' is not a number of threads"),
        ((ENGINE, "--max-error=2"), 2, "'2' is not an error above 0 and up to 1"),
        ((ENGINE, "--device-id=-1"), 2, "'-1' is not a number"),
        ((ENGINE, "--precision=int8"), 1, "no form of the engine can be used here"),
    ],
)
def test_errors_are_said(arguments: tuple[str | Path, ...], status: int, message: str) -> None:
    done = sonant(*arguments)
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = sonant(ENGINES / "ast-sound-events", "--seconds=1", "--cache", tmp_path / "file")
    assert done.returncode == 1
    assert str(tmp_path / "file") in done.stderr
    assert "Traceback" not in done.stderr


def test_the_tables_fit_into_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    forms = (FormTime("onnxruntime/fp32", 1.5, 3.25), FormTime("openvino/bf16", reason="it cannot be loaded " * 9))
    calibration = replace(Calibration.default(), forms=forms)
    settings, cells = (Setting(16, 15, 12.3456, 123.456),), (Cell(30.0, 512, 123.456, 0.95),)
    print_measured(Measured(calibration, settings, cells, 1.0))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].split() == ["onnxruntime/fp32", "1500.0", "ms", "3250.0", "ms"]
    assert lines[2].split()[:4] == ["openvino/bf16", "-", "-", "it"]
    assert ["16", "15", "12345.6", "ms", "0.1"] in [line.split() for line in lines]
    assert ["30", "s", "512", "123456.0", "ms", "0.95"] in [line.split() for line in lines]
    print_measured(Measured(Calibration.default(), settings, cells, 1.0))
    assert "form" not in capsys.readouterr().out
