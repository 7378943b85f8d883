from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from server.configuration import flag, is_list, is_table
from server.settings import Settings
from sonant.cli import main


def test_every_setting_has_a_flag_with_its_description(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, field in Settings.model_fields.items():
        assert f" {flag(name)} " in text
        assert " ".join((field.description or "?").split()) in text


def test_the_settings_in_force_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sonant.toml"
    file.write_text('port = 1\nhost = "::1"\n')
    monkeypatch.setenv("SONANT_THREADS", "2")
    arguments = ["serve", "--print-config", "--config", str(file), "--port", "3", "--default", "encode=a"]
    arguments += ["--default=classify=b=c", "--cors-origin", "https://a", "--cors-origin", "https://b"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    values = tomllib.loads(printed)
    assert (values["host"], values["port"], values["threads"]) == ("::1", 3, 2)
    assert values["defaults"] == {"encode": "a", "classify": "b=c"}
    assert values["cors_origins"] == ["https://a", "https://b"]
    file.write_text(printed)
    monkeypatch.delenv("SONANT_THREADS")
    assert main(["serve", "--print-config", "--config", str(file)]) == 0
    assert capsys.readouterr().out == printed


def test_each_setting_is_reachable_by_its_flag(capsys: pytest.CaptureFixture[str]) -> None:
    """Each is given its own default, so that none is refused."""
    arguments = []
    for name, field in Settings.model_fields.items():
        if is_table(field) or is_list(field) or name == "config":
            continue
        value = field.get_default(call_default_factory=True, validated_data={})
        arguments += [] if value is None else [f"{flag(name)}={value}"]
    assert main(["serve", "--print-config", *arguments]) == 0
    assert tomllib.loads(capsys.readouterr().out)["port"] == 8000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", "two"], "--threads: 'two': Input should be a valid integer"),
        (["--default", "encode"], "--default: 'encode' is not KEY=VALUE"),
        (["--default", "sing=x"], "Input should be 'encode', 'transcribe' or 'classify'"),
        (["--config", "/nowhere"], "/nowhere"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["--prot", "--por", "--thread"])
def test_an_unknown_flag_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["serve", name, "1"])
    assert caught.value.code == 2
    assert name in capsys.readouterr().err
