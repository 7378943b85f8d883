from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.batch import Clip, run_batch
from engines.runtimes import RuntimeOptions, front_end
from engines.runtimes.openvino import OpenVinoSession, _core, compile_graph
from engines.verify import error
from export.parity import cosine
from export.precision import plain
from tests.export.precision import demo

pytestmark = demo.needs_openvino

OPTIONS = RuntimeOptions("cpu", 1)
LEARNED = {"hubert-ctc-english": 1, "ast-sound-events": 0, "usm-spoken-words": 1, "sew-commands-english": 1}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in {"hubert-ctc-english", "usm-spoken-words"} else pytest.mark.slow)
        for name in LEARNED
    ],
)
def test_the_two_parts_compute_what_the_whole_does(name: str, tmp_path: Path) -> None:
    source = demo.source(name, tmp_path)
    path = tmp_path / plain.write(tmp_path, "fp32.onnx", "fp32.plain")
    head, rest = front_end.split(_core().read_model(path), _core().read_model(path))
    convolutions = [node for node in head.get_ordered_ops() if node.get_type_name() in front_end.CONVOLUTIONS]
    assert len(convolutions) == LEARNED[name]
    models = [_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}) for model in (head, rest)]
    parts, whole = OpenVinoSession(models), compile_graph(path, OPTIONS, "f32")
    assert set(parts.outputs) == set(whole.outputs)
    graph = source.graphs[0]
    for together in (False, True):
        pairs = [demo.rows(session, source, graph, together=together) for session in (parts, whole)]
        for row, exact in zip(*pairs, strict=True):
            assert max(error(row[name], exact[name]) for name in row) < 1e-5


@pytest.mark.parametrize("name", ["ast-sound-events", pytest.param("hubert-ctc-english", marks=pytest.mark.slow)])
def test_what_is_faint_beside_a_large_mean_survives_bf16(name: str, tmp_path: Path) -> None:
    source = demo.source(name, tmp_path)
    path = tmp_path / plain.write(tmp_path, "fp32.onnx", "fp32.plain")
    outputs = [output for output in source.exportable.outputs if output.name == "embeddings"]
    clip: Clip = (0.3 + 0.002 * source.clips[0]).astype(np.float32)
    split = compile_graph(path, OPTIONS, "bf16")
    if split.arithmetic != "bf16":
        pytest.skip("this processor cannot compute in bf16, not even slowly")
    properties = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": 1}
    whole = OpenVinoSession([_core().compile_model(str(path), "CPU", properties)])
    exact = compile_graph(path, OPTIONS, "f32")
    found, spoiled, truth = (run_batch(each, [clip], outputs)[0]["embeddings"] for each in (split, whole, exact))
    assert cosine(found, truth) > 0.999 > 0.9 > cosine(spoiled, truth)
