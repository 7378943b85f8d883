"""What is written for TensorRT has the types of NVIDIA's bindings, of the version that is installed and of the next."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bindings.wheels import VERSIONS, Bindings, fetch

ROOT = Path(__file__).parents[2]
MODULES = ("engines/runtimes/tensorrt", "export/tensorrt/builder.py", "export/tensorrt/progress.py")
# Calls of the builder, and how they must not be: another name, another order, another type.
WRONG = {
    "name": ("builder.create_network(", "builder.create_networks("),
    "order": ('"waveform", trt.Dims(smallest)', 'trt.Dims(smallest), "waveform"'),
    "type": ("trt.BuilderFlag.TF32", "trt.MemoryPoolType.WORKSPACE"),
}


def check(bindings: Bindings, files: list[Path], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run mypy over `files` as `make lint` does, but with the stubs."""
    settings = folder / "mypy.ini"
    settings.write_text(
        "[mypy]\nstrict = True\nplugins = pydantic.mypy\n[mypy-cuda.*]\nignore_missing_imports = True\n"
        "[mypy-tensorrt.*,tensorrt_bindings.*]\nignore_errors = True\n"
        "[mypy-engines.*,export.*]\nfollow_imports = silent\n"
    )
    cache = bindings.folder / "mypy"
    command = [sys.executable, "-m", "mypy", "--config-file", str(settings), "--cache-dir", str(cache)]
    environment = {**os.environ, "MYPYPATH": str(bindings.stubs)}
    return subprocess.run(
        [*command, *map(str, files)], capture_output=True, text=True, timeout=600, cwd=ROOT, env=environment
    )


@pytest.mark.parametrize(
    "version", [VERSIONS[0], *(pytest.param(version, marks=pytest.mark.slow) for version in VERSIONS[1:])]
)
def test_the_builder_and_the_runtime(version: str, tmp_path: Path) -> None:
    builder = (ROOT / "export/tensorrt/builder.py").read_text()
    wrong = [tmp_path / f"wrong_{name}.py" for name in WRONG]
    for path, (call, instead) in zip(wrong, WRONG.values(), strict=True):
        assert builder.count(call) == 1
        path.write_text(builder.replace(call, instead))
    done = check(fetch(version), [*(ROOT / module for module in MODULES), *wrong], tmp_path)
    assert done.stderr == ""
    errors = [line.split(":", 1) for line in done.stdout.splitlines() if ": error: " in line]
    assert [line for file, line in errors if Path(file).name not in {path.name for path in wrong}] == []
    assert {Path(file).name for file, _ in errors} == {path.name for path in wrong}
