from __future__ import annotations

import hashlib
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engines.verify import Check
from sonant.cli import main
from sonant.terminal import print_checks


def sonant(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sonant.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_verify_prints_each_output_of_each_graph(models: Path) -> None:
    done = sonant("verify", models / "tiny-ctc", "--threads", "1")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "ok" in line]
    assert any("fp32.layers1" in line and "hidden_states.1" in line for line in lines)
    assert any("logits" in line for line in lines)


def test_verify_says_what_is_out_of_bounds(models: Path, tmp_path: Path) -> None:
    """A reference that was changed by 1 %, with the hash that goes with it."""
    folder = Path(shutil.copytree(models / "tiny-ctc", tmp_path / "engine"))
    golden, manifest = folder / "golden.safetensors", folder / "engine.json"
    tensors = load_file(golden)
    save_file(tensors | {"1.logits": tensors["1.logits"] * np.float32(1.01)}, golden)
    data = json.loads(manifest.read_text())
    data["golden"]["sha256"] = hashlib.sha256(golden.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(data))
    done = sonant("verify", folder, "--threads", "1")
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    (bad,) = (line.split() for line in lines if "OUT OF BOUNDS" in line)
    assert bad[:2] == ["fp32", "logits"]
    assert any(line.split()[:2] == ["fp32", "embeddings"] and line.rstrip().endswith("ok") for line in lines)


def test_the_table_fits_into_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_checks([Check("fp32.layers12", "hidden_states.12", 1.2e-7, math.inf, 1e-5)])
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["graph", "output", "alone", "in", "a", "batch", "bound"]
    assert line.split() == ["fp32.layers12", "hidden_states.12", "1.2e-07", "inf", "1.0e-05", "OUT", "OF", "BOUNDS"]
    assert max(len(header), len(line)) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("export", "x", "--layers", "a,b"), "argument --layers: 'a,b' is not a list of layers"),
        (("export", "x", "--max-seconds", "nan"), "argument --max-seconds: 'nan' is not a number of seconds above 0"),
        (("export", "x", "--max-seconds", "inf"), "--max-seconds: 'inf'"),
        (("export", "x", "--max-seconds", "0"), "--max-seconds: '0'"),
        (("export", "x", "--max-seconds", "long"), "--max-seconds: 'long'"),
        (("verify", "x", "--threads", "-1"), "argument --threads: '-1' is not a number of threads"),
    ],
)
def test_wrong_usage_is_said(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("verify", "/nowhere"), "is not an engine"),
        (("serve", "--models", "/nowhere"), "--models"),
    ],
)
def test_errors_are_one_line_with_a_status(arguments: tuple[str, ...], message: str) -> None:
    done = sonant(*arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_why_something_cannot_be_exported_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "no such thing"]) == 1
    *_, line = capsys.readouterr().err.splitlines()  # after the steps
    assert line.startswith("sonant: ")
    assert "neither a folder nor a hub id" in line


def test_help_names_every_command() -> None:
    done = sonant("--help")
    assert done.returncode == 0
    assert all(command in done.stdout for command in ("export", "verify", "serve", "key"))
    assert sonant().returncode == 2
