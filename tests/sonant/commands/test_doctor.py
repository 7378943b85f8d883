from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engines.manifest import BASE
from sonant.cli import main
from sonant.doctor.examination import SUBJECTS
from sonant.doctor.providers import ENGINE

# Put before all others when Python starts: what is named is not installed, neither to be imported nor to be asked for.
BLOCK = """
import importlib.metadata, sys
BLOCKED = {blocked!r}
for module in BLOCKED:
    sys.modules[module] = None
version = importlib.metadata.version
def hidden(name):
    if name.partition("-")[0] in BLOCKED:
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)
importlib.metadata.version = hidden
"""


def doctor(folder: Path, *arguments: str | Path, blocked: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the command in `folder`, without the packages that are `blocked`."""
    (folder / "site").mkdir(exist_ok=True)
    (folder / "site" / "sitecustomize.py").write_text(BLOCK.format(blocked=blocked))
    environment = os.environ | {"PYTHONPATH": str(folder / "site"), "XDG_CACHE_HOME": str(folder), "COLUMNS": "120"}
    command = [sys.executable, "-m", "sonant.cli", "doctor", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, cwd=folder)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the command says of this host, as JSON, with its exit status."""
    folder = tmp_path_factory.mktemp("doctor")
    shutil.copytree(ENGINE, folder / "models" / "tiny")
    done = doctor(folder, "--json", "--verify")
    return {"status": done.returncode, **json.loads(done.stdout)}


def test_every_subject_is_looked_at(report: dict[str, Any]) -> None:
    assert list(dict.fromkeys(check["subject"] for check in report["checks"])) == list(SUBJECTS)
    found = {(check["subject"], check["name"]): check for check in report["checks"]}
    for subject, name in (
        ("providers", f"{BASE} on cpu"),
        ("packages", "import onnxruntime"),
        ("decoders", "soundfile"),
        ("engines", "tiny"),
        ("engines", f"tiny as {BASE}"),
    ):
        assert found[subject, name]["status"] == "ok", found[subject, name]


def test_what_is_not_well_says_what_to_do(report: dict[str, Any]) -> None:
    statuses = {check["status"] for check in report["checks"]}
    assert statuses <= {"ok", "warning", "problem", "not here"}
    assert all(check["mend"] for check in report["checks"] if check["status"] in {"warning", "problem"})
    assert report["sound"] is ("problem" not in statuses)
    assert report["status"] == (0 if report["sound"] else 1)


def test_without_any_runtime_or_the_server(tmp_path: Path) -> None:
    """Not even rich is there to draw a table."""
    blocked = ("onnxruntime", "openvino", "tensorrt", "rich", "fastapi", "pydantic_settings", "soundfile", "soxr")
    done = doctor(tmp_path, ENGINE, "--only", "packages,providers,decoders,server,engines", blocked=blocked)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    lines = done.stdout.splitlines()
    for line in (
        "problem   onnxruntime: no runtime is installed: nothing can run",
        f"problem   {BASE} on cpu: onnxruntime is not installed",
    ):
        assert any(each.startswith(line) for each in lines), line
    assert any(line.startswith("problem   server: uvicorn ") and "not installed: fastapi" in line for line in lines)
    assert any(line.startswith("problem   tiny: onnxruntime is not installed") for line in lines)
    assert {"providers", "decoders", "server", "engines"} <= set(lines)


def test_a_runtime_that_crashes_takes_nothing_with_it(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "onnxruntime.py").write_text("import os; os.abort()")
    done = doctor(tmp_path, "--only", "providers,decoders")
    assert done.returncode == 1
    text = " ".join(done.stdout.split())
    assert f"problem {BASE} on cpu it crashed (Aborted)" in text
    assert "pip install --force-reinstall 'sonant[serve]'" in text
    assert "ok soundfile" in text


def test_an_engine_that_was_changed(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(ENGINE, tmp_path / "changed"))
    (folder / "fp32.weights").write_bytes(b"")
    done = doctor(tmp_path, folder, "--only", "engines", "--verify")
    assert done.returncode == 1
    assert "is not the file that was exported" in " ".join(done.stdout.split())


def test_a_subject_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["doctor", "--only", "host,weather"])
    assert caught.value.code == 2
    assert "'weather' is none of host, clock, " in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])
    listed = capsys.readouterr().out
    assert ", ".join(SUBJECTS) in " ".join(listed.split())
