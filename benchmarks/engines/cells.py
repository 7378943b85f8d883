"""One clip length at one batch size: every form, transformers and the products of their precisions, in turn."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

from benchmarks import console, models
from benchmarks.engines import side_by_side
from benchmarks.engines.eager import Eager
from benchmarks.engines.memory import Size
from benchmarks.engines.rest import rest
from benchmarks.engines.roofline import Product
from benchmarks.engines.side_by_side import FEWEST, TORCH, Compared
from benchmarks.records.cells import Cell, FormCell
from benchmarks.records.latency import SHARE
from benchmarks.stats import PairedRatio, Tail
from engines.engine import Engine
from engines.manifest import BASE, Precision
from engines.parts import EMBEDDINGS


def measured(
    size: Size,
    engines: Mapping[str, Engine],
    eager: Eager | None,
    products: Mapping[Precision, Product],
    counted: Mapping[str, int],
    arguments: argparse.Namespace,
    doing: console.Doing,
) -> Cell:
    """Time every side of a cell; where a form is far from the rate of products, say what takes the rest.

    `counted` are the operations of one clip by kind of node. Raises WrongResultError as `side_by_side` does.
    """
    seconds, batch = size
    clips = models.clips(batch, seconds, engines[BASE].manifest.sample_rate, arguments.seed)
    graphs = {form: engine.graph_for([EMBEDDINGS]) for form, engine in engines.items()}
    beside: dict[str, Callable[[], object]] = {
        graph.precision: products[graph.precision].run for graph in graphs.values()
    }
    found = side_by_side.compare(clips, engines, eager, arguments, doing, beside, arguments.limit)
    cells = {}
    for index, (form, graph) in enumerate(graphs.items()):
        product, work = products[graph.precision], batch * sum(counted.values())
        cell = _form(found, form, graph.precision, work / product.operations, (arguments.seed, index))
        if cell.share.value < SHARE and graph.runtime == "onnxruntime":
            folder, output = engines[form].folder, engines[form].manifest.output(EMBEDDINGS)
            lost = rest(folder, graph, output, clips, counted, product, arguments.threads, FEWEST)
            cell = cell.model_copy(update={"rest": lost})
        cells[form] = cell
    return Cell(
        seconds=seconds,
        batch=batch,
        rounds=found.times[BASE].size,
        operations=batch * sum(counted.values()),
        transformers=Tail.of(found.times[TORCH]) if eager else None,
        transformers_peak_gib=None,
        forms=cells,
    )


def _form(found: Compared, form: str, precision: Precision, products: float, seed: tuple[int, int]) -> FormCell:
    """Return the figures of one form, whose work is that of so many `products`, timed under their precision."""
    times = found.times[form]
    return FormCell(
        time=Tail.of(times),
        ratio=PairedRatio(found.times[TORCH], times, seed).estimate if TORCH in found.times else None,
        share=PairedRatio(products * found.times[precision], times, seed).estimate,
        error=found.errors[form],
        cosine=found.cosines[form],
        peak_gib=None,
    )
