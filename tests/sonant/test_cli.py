from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def sonant(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sonant.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_verify_prints_each_output_of_each_graph(models: Path) -> None:
    done = sonant("verify", models / "tiny-ctc", "--threads", "1")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "ok" in line]
    assert any("fp32.layers1" in line and "hidden_states.1" in line for line in lines)
    assert any("logits" in line for line in lines)


def test_verify_fails_on_an_engine_that_computes_something_else(models: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(models / "tiny-ctc", tmp_path / "engine"))
    manifest = folder / "engine.json"
    manifest.write_text(manifest.read_text().replace('"logits": ', '"logits": -1'))
    shutil.copy(models / "tiny-ctc" / "fp32.weights", folder)
    good = sonant("verify", folder, "--threads", "1")
    assert good.returncode == 0  # what was measured is never below the floor
    (folder / "fp32.weights").write_bytes(b"\0" * (folder / "fp32.weights").stat().st_size)
    bad = sonant("verify", folder)
    assert bad.returncode == 1
    assert "fp32.weights is not the file that was exported" in bad.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("verify", "/nowhere"), "is not an engine"),
        (("export", "no such thing"), "neither a folder nor a hub id"),
        (("serve", "--models", "/nowhere"), "--models"),
    ],
)
def test_errors_are_one_line_with_a_status(arguments: tuple[str, ...], message: str) -> None:
    done = sonant(*arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_help_names_every_command() -> None:
    done = sonant("--help")
    assert done.returncode == 0
    assert all(command in done.stdout for command in ("export", "verify", "serve"))
    assert sonant().returncode == 2
