from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import pytest

from engines.errors import RuntimeUnavailableError
from engines.manifest import Manifest
from engines.verify import Check
from export.errors import BuildError
from export.tensorrt import build as builder
from sonant.doctor import gpu, providers, tensorrt
from sonant.doctor.finding import Finding


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What stands for the builder, on a host with a GPU and TensorRT."""
    fake = create_autospec(builder.build)
    graph = Manifest.read(providers.ENGINE).graphs[0].model_copy(update={"name": "tensorrt.fp16.sm90"})
    fake.return_value = (graph, [Check(graph.name, "embeddings", 1e-4, 2e-4, 1e-3)])
    monkeypatch.setattr(builder, "build", fake)
    monkeypatch.setattr(gpu, "nodes", lambda: ["/dev/nvidia0"])
    monkeypatch.setattr(tensorrt, "version", lambda: "10.16.1")
    monkeypatch.setattr(tensorrt, "_missing", lambda: None)
    monkeypatch.setattr(providers, "run", lambda name, folder, options: Finding(name, "ok", options.runtime))
    return fake


def test_a_plan_is_built_of_a_copy_and_run(build: Any) -> None:
    built, served = tensorrt.check()
    assert built == Finding("plan", "ok", "TensorRT 10.16.1 built tensorrt.fp16.sm90: error 2.0e-04 (bound 1.0e-03)")
    assert served == Finding("plan, as served", "ok", "tensorrt")
    folder, request, *_ = build.call_args.args
    assert not Path(folder).exists()  # any more
    assert folder != providers.ENGINE
    assert (request.precision, request.rows) == ("fp16", 4)


def test_why_it_was_not_built_is_said(build: Any) -> None:
    build.side_effect = BuildError("the parser does not take it")
    (found,) = tensorrt.check()
    assert (found.status, found.found) == ("problem", "the parser does not take it")
    assert found.mend


def test_what_a_build_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise RuntimeUnavailableError("TensorRT cannot be imported")

    monkeypatch.setattr(gpu, "nodes", list)
    assert [found.found for found in tensorrt.check()] == ["there is no GPU"]
    monkeypatch.setattr(gpu, "nodes", lambda: ["/dev/nvidia0"])
    monkeypatch.setattr(tensorrt, "version", missing)
    assert [found.found for found in tensorrt.check()] == ["TensorRT cannot be imported"]
    monkeypatch.setattr(tensorrt, "version", lambda: "10.16.1")
    monkeypatch.setattr(providers, "ENGINE", Path(__file__).parents[3] / "demo/engines/usm-spoken-words")
    forms = {graph.form for graph in Manifest.read(providers.ENGINE).graphs}
    assert (tensorrt._missing() is None) == ("onnxruntime/fp16" in forms)
