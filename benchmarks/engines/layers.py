"""What a truncated graph costs against what it ideally would: `sonant bench layers`.

The front end is the graph that stops before the first layer. Ideally, N of L layers take front end + N / L x (all
layers - front end); each round gives one such ratio from its own times.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks import console, models
from benchmarks.interleave import interleave, warm_up
from benchmarks.records.speed import Layers, LayersCell
from benchmarks.stats import PairedRatio, Timing
from engines.batch import Clip, run_batch
from engines.engine import Engine
from engines.manifest import Graph
from engines.verify import error


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = console.options(
        "layers", "Time of graphs that stop after N layers, against front end + N/L of the encoder.", 90.0
    )
    parser.add_argument("--length", type=float, default=10.0, help="of the clip, in seconds")
    parser.add_argument(
        "--layers", type=console.numbers(console.positive), help="graphs to time (default: a quarter, half, 3 quarters)"
    )
    return console.main(measure, console.parse(parser, argv, {"length": 1.0}))


def measure(arguments: argparse.Namespace) -> Layers:
    """Time every graph in turn; WrongResultError where a truncated one differs from the full one."""
    subject, run = console.prepare(arguments, (0, *arguments.layers) if arguments.layers else None)
    total = subject.manifest.num_layers
    engine = subject.engine(arguments.threads)
    graphs = {graph.layers: graph for graph in engine.graphs}
    chosen = sorted(arguments.layers or set(graphs) - {0, total})
    if not chosen:
        raise ValueError(f"{subject.name} has {total} layer: there is nothing to leave out")
    clip = models.clips(1, arguments.length, subject.manifest.sample_rate, arguments.seed)[0]
    contestants = {str(layers): partial(state, engine, graphs[layers], layers, clip) for layers in (0, *chosen, total)}
    results = warm_up(contestants)
    errors = {
        layers: console.check(
            f"hidden_states.{layers} differs between its own graph and the full one",
            error(results[str(layers)], state(engine, engine.full_graph, layers, clip)),
        )
        for layers in chosen
    }
    with console.progress_bar(1) as progress:
        doing = console.Doing(progress, f"{arguments.length:g} s")
        times = interleave(contestants, arguments.seconds, arguments.rounds, doing.tick)
    front_end, full = times["0"], times[str(total)]
    cells = []
    for layers in chosen:
        ideal = front_end + layers / total * (full - front_end)
        cells.append(
            LayersCell(
                layers=layers,
                time=Timing.of(times[str(layers)]),
                ideal_ms=Timing.of(ideal).median_ms,
                ratio=PairedRatio(times[str(layers)], ideal, (arguments.seed, layers)).estimate,
                error=errors[layers],
            )
        )
    return Layers(
        run=run,
        seconds=arguments.length,
        num_layers=total,
        rounds=front_end.size,
        front_end=Timing.of(front_end),
        full=Timing.of(full),
        cells=tuple(cells),
    )


def state(engine: Engine, graph: Graph, layers: int, clip: Clip) -> NDArray[np.float32]:
    """Return hidden_states.N [frames, hidden] of `clip` as `graph` computes it."""
    name = f"hidden_states.{layers}"
    return run_batch(engine.load(graph), [clip], [engine.manifest.output(name)])[0][name]
