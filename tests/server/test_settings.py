from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from engines.runtimes import RuntimeOptions
from server.settings import Settings, passed_over


def test_the_defaults_listen_on_loopback_only() -> None:
    settings = Settings()
    assert settings.host == "127.0.0.1"
    assert settings.port == 8000
    assert settings.max_json_bytes == 64 * 1024 * 1024


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


def test_what_kubernetes_says_of_services_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    services = {
        "SONANT_PORT": "tcp://10.0.0.7:8000",
        "SONANT_PORT_8000_TCP": "tcp://10.0.0.7:8000",
        "SONANT_PORT_8000_TCP_ADDR": "10.0.0.7",
        "SONANT_SERVICE_HOST": "10.0.0.7",
        "SONANT_SERVICE_PORT": "8000",
        "SONANT_SERVICE_PORT_HTTP": "8000",
        "SONANT_WEB_PORT": "udp://10.0.0.8:53",
        "SONANT_WEB_PORT_53_UDP_PROTO": "udp",
        "SONANT_WEB_SERVICE_HOST": "10.0.0.8",
    }
    for name, value in services.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SONANT_HOST", "0.0.0.0")  # noqa: S104
    settings = Settings()
    assert (settings.host, settings.port) == ("0.0.0.0", 8000)  # noqa: S104
    assert passed_over() == sorted(services)
    monkeypatch.setenv("SONANT_PORT", "8080")
    assert Settings().port == 8080
    assert passed_over() == sorted(services.keys() - {"SONANT_PORT"})


@pytest.mark.parametrize("name", ["SONANT_SERVICE", "SONANT_PORT_8000", "SONANT_WEB_PORT", "SONANT_MODELS_HOST"])
def test_what_only_looks_like_it_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "8000")
    with pytest.raises(ValidationError, match=name):
        Settings()


@pytest.mark.parametrize("value", ["proxy", "10.0.0.1/8", ""])
def test_proxies_are_addresses(value: str) -> None:
    assert Settings(trusted_proxies=("10.0.0.0/8", "::1", "*")).trusted_proxies
    with pytest.raises(ValidationError, match="trusted_proxies"):
        Settings(trusted_proxies=(value,))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_error", 0),
        ("precision", "fp8"),
        ("model_errors", {"a": 2}),
        ("port", 70000),
        ("max_padding", 1.0),
        ("queue_seconds", 0),
        ("defaults", {"sing": "tiny"}),
    ],
)
def test_impossible_values_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        Settings.model_validate({name: value})


def test_how_the_engine_of_a_model_is_run() -> None:
    assert Settings().options("any") == RuntimeOptions()
    settings = Settings(
        device="cuda",
        threads=2,
        batch_bytes=3,
        precision="fp16",
        max_error=0.1,
        model_errors={"one": 0.2},
        runtime="tensorrt",
        device_ids=(1, 2),
        device_bytes=4,
        conv_search="default",
        cuda_graphs=True,
    )
    expected = RuntimeOptions("cuda", 2, 3, "tensorrt", "fp16", 0.1, 1, 4, (1, 2), "default", cuda_graphs=True)
    assert settings.options("any") == expected
    assert settings.options("one") == replace(expected, max_error=0.2)


def test_a_body_must_fit_into_what_all_may_hold() -> None:
    with pytest.raises(ValueError, match="body_bytes_in_flight must be at least max_json_bytes"):
        Settings(max_json_bytes=100, body_bytes_in_flight=99)
    with pytest.raises(ValueError, match="spool_bytes must be at least max_body_bytes"):
        Settings(max_body_bytes=100, spool_bytes=99)


def test_four_hours_fit_into_a_body() -> None:
    assert Settings().max_body_bytes >= 4 * 3600 * 48_000 * 2 + 44
    assert Settings().max_clip_seconds == 4 * 3600


def test_the_spool_is_where_temporary_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert Settings().spool == tmp_path

    def fail() -> str:
        raise FileNotFoundError

    monkeypatch.setattr("tempfile.gettempdir", fail)
    with pytest.raises(ValueError, match="spool must be set"):
        Settings()
    assert Settings(spool=tmp_path).spool == tmp_path
