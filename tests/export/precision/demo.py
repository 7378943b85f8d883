"""What a writer of graphs is given, made of the engines of the demo: nothing is traced for it."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from engines.batch import Clip, Row, run_batch
from engines.digest import sha256
from engines.manifest import Graph, Manifest
from engines.runtimes import Session
from engines.verify import read_golden
from export import trace
from export.parity import LIMITS, cosine
from export.precision.form import Source

if TYPE_CHECKING:
    from export.exportable import Exportable

needs_openvino = pytest.mark.skipif(
    find_spec("openvino") is None, reason="openvino is not installed: pip install 'sonant[openvino]'"
)
ENGINES = Path(__file__).parents[3] / "demo" / "engines"


class Outputs:
    """The part of an exportable that writers of graphs over other graphs need."""

    def __init__(self, manifest: Manifest) -> None:
        self.outputs = manifest.outputs
        self.lengths = tuple(sorted({output.lengths for output in manifest.outputs if output.lengths}))


def source(name: str, folder: Path, layer: int | None = None) -> Source:
    """Copy the engine `name` of the demo into `folder`; with `layer`, with a graph that ends behind it."""
    shutil.copytree(ENGINES / name, folder, dirs_exist_ok=True)
    manifest = Manifest.read(folder)
    exportable: Any = Outputs(manifest)
    graphs = [graph for graph in manifest.graphs if graph.form == "onnxruntime/fp32"]
    if layer is not None:
        state = f"hidden_states.{layer}"
        part = f"fp32.layers{layer}"
        trace.save_truncated(folder, "fp32.onnx", [state, *exportable.lengths], part)
        hashes = {f"{part}.onnx": sha256(folder / f"{part}.onnx"), "fp32.weights": graphs[0].sha256["fp32.weights"]}
        update = {"name": part, "file": f"{part}.onnx", "sha256": hashes, "outputs": (state,), "layers": layer}
        graphs.append(graphs[0].model_copy(update=update))
    clips = tuple(clip for clip, _ in read_golden(folder, manifest))
    wanted: Exportable = exportable
    return Source(folder, wanted, () if layer is None else (layer,), tuple(graphs), clips, (), lambda step: None)


def rows(session: Session, source: Source, graph: Graph, *, together: bool = False) -> list[Row]:
    """Return what `graph` computes of each clip, alone or in one batch with NaN beside it."""
    outputs = [output for output in source.exportable.outputs if output.name in graph.outputs]
    if together:
        return run_batch(session, source.clips, outputs, float("nan"))
    return [run_batch(session, [clip], outputs)[0] for clip in source.clips]


def assert_near(found: list[Row], truth: list[Row], graph: Graph) -> None:
    """Every output is within the limits of the graph's precision, and not what the exact graph computes."""
    for row, exact in zip(found, truth, strict=True):
        for name, array in row.items():
            assert cosine(array, exact[name]) >= LIMITS[graph.precision].cosine
            assert not np.array_equal(array, exact[name])


def noise(samples: int) -> Clip:
    return (0.1 * np.random.default_rng(samples).standard_normal(samples)).astype(np.float32)
