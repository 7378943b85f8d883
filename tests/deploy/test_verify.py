"""What `make containers` found is on the page as it was found; and its own parts that need no podman."""

from __future__ import annotations

import wave
from io import BytesIO
from pathlib import Path

import pytest

from deploy.verify import podman, results, serving, shell
from deploy.verify.hardships import line_with


def test_the_page_is_that_of_the_results() -> None:
    found = results.read()
    # Written anew by: python -m deploy.verify --page
    assert results.PAGE.read_text() == results.page(found)
    assert [size.target for size in found.sizes][:2] == ["cpu", "export"]
    assert {"profile cpu", "SIGTERM", "profile export", "profile monitoring", "rollout"} <= {
        step.name for step in found.steps
    }


def test_text_of_a_step_cannot_break_the_table() -> None:
    step = results.Step(name="x", found="\x1b[?25ha | b\n<c>", seconds=1)
    found = results.Results(date="", commit="", system="", versions={}, sizes=(), steps=(step,))
    assert "| x | a \\| b &lt;c> | 1.0 |" in results.page(found)


def test_a_command_that_fails_is_shown_with_its_last_lines() -> None:
    with pytest.raises(shell.VerificationError, match=r"ended with 3:\nout"):
        shell.run(["sh", "-c", "echo out; exit 3"])
    with pytest.raises(shell.VerificationError, match="there-is-no-such is not installed"):
        shell.run(["there-is-no-such"])
    assert shell.run(["printf", "\x1b[?25h\x1b[1;32mgreen\x1b[0m"]).stdout == "green"
    assert shell.run(["sh", "-c", "echo failed to connect to syslog; echo out >&2"]).stdout == "out"


def test_what_pip_is_told_reaches_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    lines = [":env:.timeout='9'", f"global.find-links='{wheels} /there/is/none'", "global.timeout='5'", "user.x='y'"]
    monkeypatch.setattr(podman, "run", lambda command: shell.run(["printf", "%s\n", *lines]))
    options = podman.pip_settings(tmp_path)
    assert options == ["--secret", f"id=pip,src={tmp_path}/pip.conf", f"--volume={wheels}:{wheels}:ro"]
    assert (tmp_path / "pip.conf").read_text().splitlines() == [
        "[global]",
        f"find-links = {wheels} /there/is/none",
        "timeout = 9",
    ]


def test_who_is_not_root_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 10001)
    with pytest.raises(shell.VerificationError, match="run this as root"):
        podman.prepare(tmp_path)


def test_noise_is_a_recording() -> None:
    with wave.open(BytesIO(serving.noise(2))) as recording:
        assert recording.getnframes() == 2 * serving.RATE
        assert len(set(recording.readframes(1000))) > 100


def test_the_last_line_that_says_it() -> None:
    assert line_with("b", "ab\ncb \nd") == "cb"
    with pytest.raises(shell.VerificationError):
        line_with("x", "ab")
