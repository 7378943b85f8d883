from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from engines.digest import sha256
from engines.manifest import BASE, Manifest
from sonant.doctor import gpu, libraries, providers
from sonant.doctor.request import Request


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny engine, to be changed."""
    folder = Path(shutil.copytree(providers.ENGINE, tmp_path / "tiny"))
    monkeypatch.setattr(providers, "ENGINE", folder)
    return folder


def test_each_form_is_run_on_each_of_its_devices() -> None:
    graphs = Manifest.read(providers.ENGINE).graphs
    expected = {f"{graph.form} on {device}" for graph in graphs for device in graph.devices}
    _, *jobs = providers.jobs(Request())
    assert {job.name for job in jobs} == expected >= {f"{BASE} on cpu", f"{BASE} on cuda"}
    assert all("pip install" in job.mend for job in jobs)


def test_which_providers_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = providers.check()
    assert (found.status, "CPUExecutionProvider" in found.found) == ("ok", True)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert [found.status for found in providers.check()] == ["not here"]


def test_the_tiny_engine_is_right_here() -> None:
    (found,) = providers.check(BASE, "cpu")
    assert found.status == "ok"
    assert found.found.startswith("error ")
    assert "for a second of audio" in found.found


def test_another_result_is_a_problem(engine: Path) -> None:
    """A bit of each weight is another, and the hash is that of these weights."""
    data = json.loads((engine / "engine.json").read_text())
    (graph,) = (one for one in data["graphs"] if one["name"] == "fp32")
    weights = engine / "fp32.weights"
    weights.write_bytes(bytes(value ^ (index % 4 == 2) for index, value in enumerate(weights.read_bytes())))
    graph["sha256"]["fp32.weights"] = sha256(weights)
    (engine / "engine.json").write_text(json.dumps(data))
    (found,) = providers.check(BASE, "cpu")
    assert found.status == "problem"
    assert found.found.startswith("it computes something else: error ")
    assert found.mend


def test_a_damaged_file_is_a_problem(engine: Path) -> None:
    (engine / "fp32.onnx").write_bytes(b"")
    (found,) = providers.check(BASE, "cpu")
    assert (found.status, "is not the file that was exported" in found.found) == ("problem", True)


def test_without_a_gpu_or_a_runtime_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "nodes", list)
    assert [found.found for found in providers.check(BASE, "cuda")] == ["there is no GPU"]
    monkeypatch.setattr(gpu, "nodes", lambda: ["/dev/nvidia0"])
    monkeypatch.setattr(libraries, "has_cuda", lambda: False)
    (found,) = providers.check(BASE, "cuda")
    assert (found.status, found.found) == ("not here", "this ONNX Runtime runs on the processor only")
    monkeypatch.setattr(libraries, "has_cuda", lambda: True)  # but it does not start
    (found,) = providers.check(BASE, "cuda")
    assert (found.status, "sonant[gpu]" in found.mend) == ("problem", True)


def test_without_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (found,) = providers.check(BASE, "cpu")
    assert (found.status, "onnxruntime is not installed" in found.found) == ("problem", True)
