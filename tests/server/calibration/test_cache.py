from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from engines.engine import Engine
from engines.runtimes import RuntimeOptions
from server.calibration import Calibration
from server.calibration.cache import Cache, Key, key_of

ENGINES = Path(__file__).parents[3] / "demo" / "engines"
FOUND = Calibration(3, 2, 16.0, 0.001, 0.02, 1e6, 2e3, "2026-01-01T00:00:00+00:00")


@pytest.fixture
def key() -> Key:
    return key_of(Engine(ENGINES / "hubert-ctc-english"), RuntimeOptions("cpu"), 0)


def test_what_was_written_is_read(tmp_path: Path, key: Key, caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(tmp_path)
    assert cache.read(key) is None
    cache.write(key, FOUND)
    cache.write(key, replace(FOUND, threads=4))
    assert cache.read(key) == replace(FOUND, threads=4)
    assert [path.parent.name for path in tmp_path.rglob("*.json")] == ["calibration"]
    assert not caplog.records


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"key": {}, "calibration": {"threads": 1}}',
        '"\\ud800"',
        "\x00\x01",
    ],
)
def test_a_damaged_file_is_passed_over_with_a_warning(
    text: str, tmp_path: Path, key: Key, caplog: pytest.LogCaptureFixture
) -> None:
    cache = Cache(tmp_path)
    cache.write(key, FOUND)
    cache.path(key).write_text(text)
    assert cache.read(key) is None
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "is not used" in record.message
    assert "\n" not in record.message
    cache.write(key, FOUND)
    assert cache.read(key) == FOUND


@pytest.mark.parametrize(
    ("name", "value"),
    [("threads", 0), ("workers", -1), ("batch_seconds", 0), ("batch_seconds", "NaN"), ("seconds_per_second", -1)],
)
def test_numbers_that_cannot_be_are_passed_over(name: str, value: object, tmp_path: Path, key: Key) -> None:
    cache = Cache(tmp_path)
    cache.write(key, FOUND)
    data = json.loads(cache.path(key).read_text())
    data["calibration"][name] = value
    cache.path(key).write_text(json.dumps(data))
    assert cache.read(key) is None


def test_a_file_of_another_engine_is_passed_over(tmp_path: Path, key: Key, caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(tmp_path)
    other = key_of(Engine(ENGINES / "hubert-intent-english"), RuntimeOptions("cpu"), 0)
    cache.write(other, FOUND)
    cache.path(other).rename(cache.path(key))
    assert cache.read(key) is None
    assert "measured for something else" in caplog.text


def test_a_folder_in_place_of_the_file_is_passed_over(tmp_path: Path, key: Key) -> None:
    cache = Cache(tmp_path)
    cache.path(key).mkdir(parents=True)
    assert cache.read(key) is None
    with pytest.raises(OSError, match="directory"):
        cache.write(key, FOUND)
    assert [path.name for path in (tmp_path / "calibration").iterdir()] == [cache.path(key).name]


def test_the_key_tells_hosts_engines_and_settings_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, other = Engine(ENGINES / "hubert-ctc-english"), Engine(ENGINES / "hubert-intent-english")
    keys = [
        key_of(engine, RuntimeOptions("cpu"), 0),
        key_of(other, RuntimeOptions("cpu"), 0),
        key_of(engine, RuntimeOptions("cpu", threads=2), 0),
        key_of(engine, RuntimeOptions("cpu"), 2),
        key_of(engine, RuntimeOptions("cpu", precision="fp32"), 0),
        key_of(engine, RuntimeOptions("cpu", runtime="onnxruntime"), 0),
        key_of(engine, RuntimeOptions("cpu", max_error=0.02), 0),
        key_of(engine, RuntimeOptions("cpu", device_id=1), 0),
        key_of(engine, RuntimeOptions("cpu", device_bytes=1), 0),
        key_of(engine, RuntimeOptions("cpu", conv_search="default"), 0),
        key_of(engine, RuntimeOptions("cpu", cuda_graphs=True), 0),
    ]
    for name, value in (("cores", 77), ("processor", "Another"), ("memory", 2**40)):
        monkeypatch.setattr(f"engines.host.{name}", lambda value=value: value)
        keys.append(key_of(engine, RuntimeOptions("cpu"), 0))
    monkeypatch.setattr("onnxruntime.__version__", "99")
    keys.append(key_of(engine, RuntimeOptions("cpu"), 0))
    cache = Cache(Path("/cache"))
    assert len({cache.path(key) for key in keys}) == len(keys)
    assert key_of(engine, RuntimeOptions("cpu"), 0) == key_of(Engine(engine.folder), RuntimeOptions("cpu"), 0)
