from pathlib import Path

import pytest
from pydantic import ValidationError

from server.settings import Settings


def test_the_defaults_listen_on_loopback_only() -> None:
    settings = Settings()
    assert settings.host == "127.0.0.1"
    assert settings.port == 8000
    assert settings.max_body_bytes == 64 * 1024 * 1024


def test_the_environment_is_read_and_arguments_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SONANT_MODELS", "/engines")
    monkeypatch.setenv("SONANT_PORT", "1234")
    monkeypatch.setenv("SONANT_DEFAULTS", '{"encode": "tiny"}')
    settings = Settings(port=99)
    assert settings.models == Path("/engines")
    assert settings.port == 99
    assert settings.defaults == {"encode": "tiny"}


def test_unknown_names_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="max_body"):
        Settings.model_validate({"max_body": 1})
    monkeypatch.setenv("SONANT_MAX_BODY", "1")
    with pytest.raises(ValidationError, match="SONANT_MAX_BODY"):
        Settings()


@pytest.mark.parametrize(
    ("name", "value"), [("port", 70000), ("max_padding", 1.0), ("queue_seconds", 0), ("defaults", {"sing": "tiny"})]
)
def test_impossible_values_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        Settings.model_validate({name: value})


def test_a_body_must_fit_into_what_all_may_hold() -> None:
    with pytest.raises(ValueError, match="body_bytes_in_flight must be at least max_body_bytes"):
        Settings(max_body_bytes=100, body_bytes_in_flight=99)
