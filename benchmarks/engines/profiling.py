"""How long each node of a graph takes in ONNX Runtime, and on arrays of which shapes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from engines.manifest import Graph
from engines.runtimes import RuntimeOptions
from engines.runtimes.onnxruntime import OnnxSession, configuration

Shape = tuple[int, ...]
NODE, RUN = "_kernel_time", "model_run"  # what ONNX Runtime calls the events of a node and of a whole run
MICROSECOND = 1e-6


@dataclass(frozen=True)
class Node:
    """One execution of one node. Weights that were packed ahead are not among its inputs."""

    name: str
    operator: str
    seconds: float
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]


@dataclass(frozen=True)
class Pass:
    """One run of a graph: its nodes in the order in which they ran, and how long the session took with them."""

    nodes: tuple[Node, ...]
    seconds: float


class Profiled:
    """A graph as the engine runs it, on a CPU, or as it was exported: the session, and what it noted of each run."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.session = OnnxSession(session)

    def passes(self) -> list[Pass]:
        """Return the runs so far; from now on nothing is noted."""
        return read(json.loads(Path(self._session.end_profiling()).read_text(encoding="utf-8")))


@contextmanager
def profiled(folder: Path, graph: Graph, threads: int, *, optimized: bool = True) -> Iterator[Profiled]:
    """Load `graph`; unless it is `optimized`, node by node as it was exported, with all weights among the inputs."""
    options = configuration.session_options(onnxruntime, RuntimeOptions("cpu", threads), on_gpu=False)
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
    with tempfile.TemporaryDirectory() as place:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(place) / "profile")
        yield Profiled(
            onnxruntime.InferenceSession(
                str(folder / graph.file),
                options,
                providers=[configuration.CPU],
                disabled_optimizers=configuration.SLOWER_FUSIONS if optimized else [],
            )
        )


def read(events: Iterable[Mapping[str, Any]]) -> list[Pass]:
    """Return the runs that the events of a profile are of."""
    ordered = sorted(events, key=lambda event: int(event["ts"]))
    nodes = [event for event in ordered if event["cat"] == "Node" and event["name"].endswith(NODE)]
    found = []
    for run in (event for event in ordered if event["name"] == RUN):
        end = run["ts"] + run["dur"]
        inside = (_node(event) for event in nodes if run["ts"] <= event["ts"] <= end)
        found.append(Pass(tuple(inside), run["dur"] * MICROSECOND))
    return found


def _node(event: Mapping[str, Any]) -> Node:
    details = event["args"]
    return Node(
        name=event["name"].removesuffix(NODE),
        operator=details["op_name"],
        seconds=event["dur"] * MICROSECOND,
        inputs=_shapes(details["input_type_shape"]),
        outputs=_shapes(details["output_type_shape"]),
    )


def _shapes(arrays: Iterable[Mapping[str, list[int]]]) -> tuple[Shape, ...]:
    """Return the shapes of arrays, each of which is noted as {type: shape}."""
    return tuple(tuple(shape) for array in arrays for shape in array.values())
