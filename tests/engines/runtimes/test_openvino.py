from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines import runtimes
from engines.batch import Clip, run_batch
from engines.errors import EngineInvalidError, OutOfMemoryError, RuntimeUnavailableError
from engines.manifest import Graph, Manifest, Output, Precision
from engines.runtimes import RuntimeOptions, openvino
from engines.verify import error
from tests.export.precision import demo

pytestmark = demo.needs_openvino

OPTIONS = RuntimeOptions("cpu", 1)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Graph, tuple[Output, ...]]:
    from export.precision.openvino import write_fp32

    source = demo.source("hubert-ctc-english", tmp_path_factory.mktemp("openvino"))
    (graph,) = write_fp32(source).graphs
    return source.folder, graph, Manifest.read(source.folder).outputs


def of_precision(graph: Graph, precision: Precision) -> Graph:
    return graph.model_copy(update={"precision": precision})


def test_it_is_found_and_described() -> None:
    runtime = runtimes.find("openvino")
    assert runtime.name == "openvino"
    assert runtime.describe("auto")["device"] == "cpu"
    assert str(runtime.describe("auto")["openvino"])[:2] == "20"


def test_only_the_outputs_that_are_asked_for_come_and_stay(engine: tuple[Path, Graph, tuple[Output, ...]]) -> None:
    folder, graph, _ = engine
    session = openvino.OpenVino().load(folder, graph, OPTIONS)
    assert session.inputs == ("waveform", "lengths")
    assert set(graph.outputs) <= set(session.outputs)
    clip = demo.noise(8000)[None]
    first = session.run(clip, np.array([8000]), ["logits"])
    assert set(first) == {"logits"}
    kept = first["logits"].copy()
    session.run(-clip[:, ::-1].copy(), np.array([8000]), ["logits"])
    assert np.array_equal(first["logits"], kept)


def test_several_threads_may_run_one_session(engine: tuple[Path, Graph, tuple[Output, ...]]) -> None:
    folder, graph, outputs = engine
    session = openvino.OpenVino().load(folder, graph, OPTIONS)
    clips = [demo.noise(samples) for samples in (4000, 9000, 6500, 12000)]

    def run(clip: Clip) -> Any:
        return run_batch(session, [clip], outputs)[0]["embeddings"]

    alone = [run(clip) for clip in clips]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(run, clips * 6))
    assert all(error(found, alone[index % 4]) < 1e-5 for index, found in enumerate(results))


@pytest.mark.parametrize(
    ("precision", "device", "has", "reason"),
    [
        ("fp32", "cpu", (), None),
        ("int8", "auto", (), None),
        ("fp32", "cuda", (), "processors alone"),
        ("bf16", "cpu", ("FP32", "INT8"), "no bf16"),
        ("bf16", "cpu", ("FP32", "BF16"), None),
    ],
)
def test_what_this_host_cannot_run_is_refused(
    engine: tuple[Path, Graph, tuple[Output, ...]],
    monkeypatch: pytest.MonkeyPatch,
    precision: Precision,
    device: runtimes.Device,
    has: tuple[str, ...],
    reason: str | None,
) -> None:
    folder, graph, _ = engine
    monkeypatch.setattr(openvino, "_has_bf16", lambda: "BF16" in has)
    graph, options = of_precision(graph, precision), RuntimeOptions(device, 1)
    refusal = openvino.OpenVino().refusal(graph, options)
    assert (refusal is None) == (reason is None)
    if reason is not None:
        assert reason in str(refusal)
        with pytest.raises(RuntimeUnavailableError, match=reason):
            openvino.OpenVino().load(folder, graph, options)


@pytest.mark.parametrize(
    ("precision", "has_bf16", "arithmetic"),
    [("fp32", True, "f32"), ("int8", False, "f32"), ("int8", True, "bf16"), ("bf16", True, "bf16")],
)
def test_what_it_computes_in_is_always_said(
    engine: tuple[Path, Graph, tuple[Output, ...]],
    monkeypatch: pytest.MonkeyPatch,
    precision: Precision,
    has_bf16: bool,
    arithmetic: str,
) -> None:
    folder, graph, _ = engine
    said: list[str] = []
    monkeypatch.setattr(openvino, "_has_bf16", lambda: has_bf16)
    monkeypatch.setattr(openvino, "compile_graph", lambda path, options, arithmetic: said.append(arithmetic))
    openvino.OpenVino().load(folder, of_precision(graph, precision), OPTIONS)
    assert said == [arithmetic]


def test_a_damaged_graph_is_an_error(engine: tuple[Path, Graph, tuple[Output, ...]], tmp_path: Path) -> None:
    (tmp_path / engine[1].file).write_bytes(b"no graph")
    with pytest.raises(EngineInvalidError, match="cannot be loaded by OpenVINO"):
        openvino.OpenVino().load(tmp_path, engine[1], OPTIONS)


@pytest.mark.parametrize("problem", [MemoryError("std::bad_alloc"), RuntimeError("Check failed: bad_alloc")])
def test_a_batch_that_does_not_fit_is_an_error_of_its_own(problem: Exception) -> None:
    class Full:
        inputs = outputs = ()

        def create_infer_request(self) -> None:
            raise problem

    session = openvino.OpenVinoSession([Full()])
    with pytest.raises(OutOfMemoryError, match=r"a batch \[1, 4\]: .*bad_alloc"):
        session.run(np.zeros((1, 4), np.float32), np.array([4]), [])
    problem.args = ("another problem",)
    if isinstance(problem, RuntimeError):
        with pytest.raises(RuntimeError, match="another problem"):
            session.run(np.zeros((1, 4), np.float32), np.array([4]), [])


def test_without_openvino_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(RuntimeUnavailableError, match=r"pip install 'sonant\[openvino\]'"):
        openvino.OpenVino().describe("auto")


def test_its_import_reports_to_nobody() -> None:
    script = """
import sys
asked = []
sys.addaudithook(lambda event, arguments: asked.append(event) if event.startswith("socket.") else None)
from engines.runtimes.openvino import OpenVino
OpenVino().describe("auto")
assert "openvino" in sys.modules and not asked
assert [name for name in sys.modules if name.startswith("openvino_telemetry")] == ["openvino_telemetry"]
assert sys.modules["openvino_telemetry"] is None
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
