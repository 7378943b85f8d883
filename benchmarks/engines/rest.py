"""What takes the time of a graph, beyond what its products would take at the rate of the machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.engines.kinds import by_kind
from benchmarks.engines.profiling import profiled
from benchmarks.engines.roofline import Product
from benchmarks.records.cells import Rest
from engines.batch import Clip, run_batch
from engines.manifest import Graph, Output

BYTES = 4  # of a float
OUTSIDE, AROUND = "session", "Python"  # the session beside its nodes, and what is done before and after it


def rest(
    folder: Path,
    graph: Graph,
    output: Output,
    clips: Sequence[Clip],
    operations: Mapping[str, int],
    product: Product,
    threads: int,
    rounds: int,
) -> Rest:
    """Return what takes the time of `graph`, which is for ONNX Runtime; `operations` by kind are those of one clip.

    In each round the product is computed before and after the graph, and its rate is the mean of the two.
    """
    batches = [[clip] for clip in clips] if graph.max_rows == 1 else [list(clips)]
    weights = torch.ones(sum((folder / file).stat().st_size for file in graph.sha256) // BYTES)
    walls, rates, reading = [], [], []
    with profiled(folder, graph, threads) as found:

        def run() -> float:
            return _timed(lambda: [run_batch(found.session, batch, [output]) for batch in batches])

        run()  # which plans and allocates
        for _ in range(rounds):
            before, wall, after = _timed(product.run), run(), _timed(product.run)
            walls.append(wall)
            rates.append(2 * product.operations / (before + after))
            reading.append(len(batches) * _timed(weights.sum) / wall)
        passes = found.passes()[len(batches) :]
    per_round = [passes[index : index + len(batches)] for index in range(0, len(passes), len(batches))]
    shares: dict[str, list[float]] = {}
    for wall, rate, runs in zip(walls, rates, per_round, strict=True):
        spent: dict[str, float] = dict.fromkeys(operations, 0.0)
        for each in runs:
            kinds = by_kind(each, lambda node: node.seconds)
            kinds[OUTSIDE] = each.seconds - sum(kinds.values())
            for kind, seconds in kinds.items():
                spent[kind] = spent.get(kind, 0.0) + seconds
        spent[AROUND] = wall - sum(each.seconds for each in runs)
        for kind, seconds in spent.items():
            ideal = len(clips) * operations.get(kind, 0) / rate
            shares.setdefault(kind, []).append((seconds - ideal) / wall)
    return Rest(kinds={kind: float(np.mean(each)) for kind, each in shares.items()}, weights=float(np.mean(reading)))


def _timed(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin
