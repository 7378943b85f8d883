from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from engines import runtimes
from engines.manifest import BASE, Graph
from engines.runtimes import RuntimeOptions
from sonant.doctor import engines, gpu, providers
from sonant.doctor.finding import Finding
from sonant.doctor.request import Request


class Runtime:
    """One that is there, or is not."""

    def __init__(self, refusal: str | None) -> None:
        self._refusal = refusal

    def refusal(self, graph: Graph, options: RuntimeOptions) -> str | None:
        return self._refusal

    def describe(self, device: str, device_id: int) -> dict[str, str]:
        return {}


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """An engine with three forms, one of which is far off."""
    folder = Path(shutil.copytree(providers.ENGINE, tmp_path / "models" / "tiny"))
    data = json.loads((folder / "engine.json").read_text())
    (base,) = (graph for graph in data["graphs"] if graph["name"] == "fp32")
    exact = {**base, "name": "openvino.fp32", "runtime": "openvino", "devices": ["cpu"]}
    rough = {**base, "name": "bf16", "precision": "bf16", "runtime": "openvino", "devices": ["cpu"]}
    rough["errors"] = dict.fromkeys(base["errors"], 0.02)
    data["graphs"] = [base, exact, rough]
    (folder / "engine.json").write_text(json.dumps(data))
    return folder


def put(monkeypatch: pytest.MonkeyPatch, openvino: str | None = None) -> None:
    """Have runtimes that refuse nothing, or OpenVINO's graphs for a reason."""
    monkeypatch.setattr(runtimes, "find", lambda name: Runtime(openvino if name == "openvino" else None))


def described(engine: Path, **given: str) -> Finding:
    (found,) = engines.check(engine.name, str(engine), given)
    return found


def test_what_an_engine_runs_as(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch)
    found = described(engine)
    assert found.status == "ok"
    chosen, other, unwanted = found.found.splitlines()
    assert chosen.startswith("runs as ")
    assert {chosen.split()[-1], other.split()[-1]} == {BASE, "openvino/fp32"}
    assert unwanted == "could as openvino/bf16, but its error, 2.0e-02, is above 1.0e-04"


def test_what_an_engine_does_not_run_as(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, openvino="it is not installed")
    assert described(engine).found.splitlines() == [
        f"runs as {BASE}",
        "not as openvino/fp32: it is not installed",
        "not as openvino/bf16: it is not installed",
    ]


def test_the_server_s_settings_count(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch)
    monkeypatch.setenv("SONANT_MAX_ERROR", "0.05")
    assert described(engine).found.splitlines()[0] == "runs as openvino/bf16"


def test_plans_that_are_not_for_this_gpu(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = json.loads((engine / "engine.json").read_text())
    batches = [f"{part}_{of}" for of in ("samples", "rows") for part in ("min", "opt", "max")]
    plan: dict[str, Any] = {"tensorrt": "10.15.1", "compute_capability": "8.0", "device": "Other", "builder_level": 3}
    plan |= {"profiles": [dict.fromkeys(batches, 8000)], "built": "2026-01-01"}
    plan |= {"source": "fp32", "source_sha256": "0" * 64}
    graph = {**data["graphs"][0], "name": "tensorrt.fp32.sm80", "runtime": "tensorrt", "devices": ["cuda"]}
    data["graphs"] = [data["graphs"][0], graph | {"opset": None, "plan": plan}]
    (engine / "engine.json").write_text(json.dumps(data))
    monkeypatch.setattr(runtimes, "find", lambda name: Runtime("built by another" if name == "tensorrt" else None))
    monkeypatch.setattr(gpu, "nodes", list)
    assert described(engine).status == "ok"
    monkeypatch.setattr(gpu, "nodes", lambda: ["/dev/nvidia0"])
    found = described(engine)
    assert (found.status, "sonant build" in found.mend) == ("warning", True)
    assert "not as tensorrt/fp32: built by another" in found.found


def test_an_engine_that_nothing_runs(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "openvino", None)
    found = described(providers.ENGINE)
    assert (found.status, "onnxruntime is not installed" in found.found) == ("problem", True)


def test_a_folder_that_is_no_engine(tmp_path: Path) -> None:
    found = described(tmp_path)
    assert (found.status, "is not an engine" in found.found) == ("problem", True)
    assert found.mend


def test_golden_clips_are_replayed() -> None:
    (found,) = engines.check("tiny", str(providers.ENGINE), {}, BASE)
    assert (found.name, found.status) == (f"tiny as {BASE}", "ok")


def test_a_damaged_engine_is_found(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(providers.ENGINE, tmp_path / "tiny"))
    weights = folder / "fp32.weights"
    weights.write_bytes(weights.read_bytes()[:-1])
    (found,) = engines.check("tiny", str(folder), {}, BASE)
    assert (found.status, "is not the file that was exported" in found.found) == ("problem", True)


def test_a_form_that_cannot_run_here_is_not_replayed(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, openvino="it is not installed")
    (found,) = engines.check("tiny", str(engine), {}, "openvino/bf16")
    assert (found.status, found.found) == ("not here", "it is not installed")


def test_which_are_looked_at(engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Request(settings={"models": str(engine.parent)})
    assert [job.name for job in engines.jobs(served)] == ["tiny"]
    named = Request((engine, tmp_path), verify=True)
    forms = [f"tiny as {form}" for form in (BASE, "openvino/fp32", "openvino/bf16")]
    assert [job.name for job in engines.jobs(named)] == ["tiny", *forms, tmp_path.name]
    monkeypatch.chdir(tmp_path / "models")  # where there is no folder `models`
    (none,) = engines.jobs(Request())
    assert [found.status for found in engines.check(**none.arguments)] == ["not here"]
