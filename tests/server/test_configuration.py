from __future__ import annotations

import hashlib
import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from server.configuration import SOURCES, ConfigurationError, default_text, flag, load, reference, to_toml
from server.settings import MAX_FILE_BYTES, Settings, variable

HASH = hashlib.sha256(b"key").hexdigest()


def file(folder: Path, text: str) -> Path:
    path = folder / "sonant.toml"
    path.write_text(text)
    return path


def test_a_flag_wins_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file(tmp_path, 'host = "file"\nport = 1\nthreads = 1\n[defaults]\nencode = "file"\nclassify = "file"\n')
    monkeypatch.setenv("SONANT_CONFIG", str(path))
    monkeypatch.setenv("SONANT_PORT", "2")
    monkeypatch.setenv("SONANT_THREADS", "2")
    settings = load({"threads": "3", "defaults": {"encode": "flag"}})
    assert (settings.host, settings.port, settings.threads) == ("file", 2, 3)
    assert settings.defaults == {"encode": "flag", "classify": "file"}


def test_the_flag_names_the_file_rather_than_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SONANT_CONFIG", "/nowhere.toml")
    assert load({"config": str(file(tmp_path, "port = 7"))}).port == 7


@pytest.mark.parametrize(
    ("flags", "environment", "text", "message"),
    [
        ({"port": "x"}, {}, "", "--port: 'x': Input should be a valid integer"),
        (
            {"max_padding": "1"},
            {"SONANT_MAX_PADDING": "0"},
            "max_padding = 0",
            "--max-padding: '1': Input should be less",
        ),
        ({}, {"SONANT_PORT": "70000"}, "port = 1", "SONANT_PORT: '70000': Input should be less than or equal to 65535"),
        ({}, {"sonant_port": "x"}, "", "SONANT_PORT: 'x': Input should be a valid integer"),
        ({}, {"SONANT_DEFAULTS": "encode"}, "", "SONANT_DEFAULTS: must be JSON"),
        ({}, {"SONANT_PROT": "1"}, "", "SONANT_PROT; there are: SONANT_ADMIN_KEYS, "),
        ({}, {}, "prot = 1", "sonant.toml: prot: unknown; there are: admin_keys, "),
        ({}, {}, 'device = "tpu"', "sonant.toml: device: 'tpu': Input should be 'auto', 'cpu' or 'cuda'"),
        ({}, {}, "[defaults]\nsing = 'x'", "sonant.toml: defaults.sing"),
        ({}, {}, "port = ", "sonant.toml: Invalid value"),
        ({}, {}, "port = 1\nport = 2", "sonant.toml: Cannot overwrite a value"),
        ({}, {}, 'config = "other.toml"', "sonant.toml: config: a configuration cannot name another"),
        ({"config": "/nowhere"}, {}, "", "/nowhere: "),
    ],
)
def test_an_error_names_its_source_and_what_is_allowed(
    flags: dict[str, str],
    environment: dict[str, str],
    text: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        load({"config": str(file(tmp_path, text))} | flags)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "{a = " * 5000, "#" * (MAX_FILE_BYTES + 1)])
def test_a_file_that_is_too_much_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"sonant\.toml") as caught:
        load({"config": str(file(tmp_path, text))})
    assert len(str(caught.value).splitlines()) == 1


def test_a_variable_that_is_too_deep_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SONANT_DEFAULTS", "[" * 100_000)
    with pytest.raises(ConfigurationError, match="SONANT_DEFAULTS: must be JSON") as caught:
        load({})
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        with pytest.raises(ConfigurationError, match="not a regular file"):
            load({"config": str(path)})


def test_all_errors_are_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load({"config": str(file(tmp_path, "port = 'x'\nthreads = -1\nprot = 1"))})
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("name", ["api_keys", "metrics_keys", "admin_keys"])
def test_a_key_in_place_of_its_hash_is_refused_and_not_repeated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load({name: {"mine": "sonant_secret"}})
    assert flag(name) in str(caught.value)
    assert "secret" not in str(caught.value)
    monkeypatch.setenv(variable(name), json.dumps({"mine": "sonant_secret"}))
    with pytest.raises(ValueError, match=name) as again:
        Settings()
    assert "secret" not in str(again.value)


def test_what_is_printed_can_be_fed_back_in(tmp_path: Path) -> None:
    settings = Settings(
        models=Path('/engines/"quoted" \\ ü'),
        threads=3,
        body_timeout=1.5,
        defaults={"encode": "a", "classify": "b"},
        api_keys={"mine": HASH},
        cors_origins=("https://a", "https://b"),
    )
    text = to_toml(settings)
    assert load({"config": str(file(tmp_path, text))}).model_dump(exclude=SOURCES) == settings.model_dump(
        exclude=SOURCES
    )
    set_names = {name for name, value in settings if value is not None} - SOURCES
    assert set(tomllib.loads(text)) == set_names
    assert all(f"# {field.description}\n" in text for name, field in fields().items())


def fields() -> dict[str, Any]:
    return {name: field for name, field in Settings.model_fields.items() if name not in SOURCES}


def test_every_setting_is_described_and_its_flag_is_its_own() -> None:
    assert all(field.description and field.description.endswith(".") for field in fields().values())
    assert len({flag(name) for name in fields()}) == len(fields())


def test_the_document_of_the_settings_is_up_to_date() -> None:
    path = Path(__file__).parent.parent.parent / "server" / "SETTINGS.md"
    assert path.read_text() == reference(), "write it anew: python -m server.configuration > server/SETTINGS.md"


@pytest.mark.parametrize(
    ("name", "text"), [("port", "8000"), ("host", '"127.0.0.1"'), ("defaults", ""), ("config", "")]
)
def test_the_default_of_a_setting(name: str, text: str) -> None:
    assert default_text(Settings.model_fields[name]) == text
