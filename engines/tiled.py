"""Golden clips tiled into the batches that a plan is built for: TensorRT may be wrong in some of them only.

Each profile of a plan has kernels of its own. So in each its smallest, usual and largest batch are run, filled with the
golden clips again and again, NaN beyond their lengths. Three things are compared:

- every row of a golden clip that fits with what transformers computes for it;
- a row as long as the batch, made of golden clips one after the other, of which transformers says nothing: with the
  exact graph where that is at hand, else with the same clip in a wider batch, which is proved in the same way;
- rows of the same clip with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from engines.batch import Clip, Row, run_batch
from engines.manifest import Graph, Manifest, Output
from engines.runtimes import ProfiledSession
from engines.verify import SLACK, Check, Reference, bound, error

Exact = Callable[[Clip], Row]
NAN = float("nan")


@dataclass
class _Worst:
    """The largest error of one output, and the batch that has it."""

    alone: float = 0.0  # in batches of one row
    batch: float = 0.0
    place: str = ""
    _largest: float = field(default=-1.0, repr=False)

    def add(self, found: float, rows: int, seconds: float) -> None:
        if rows == 1:
            self.alone = max(self.alone, found)
        else:
            self.batch = max(self.batch, found)
        if found > self._largest:
            self._largest, self.place = found, f"{rows} x {seconds:.2f} s"


def check(
    session: ProfiledSession,
    manifest: Manifest,
    graph: Graph,
    golden: Sequence[Reference],
    exact: Exact | None = None,
) -> list[Check]:
    """Run the batches that the plan of `graph` was built for; return two checks for each output that can be proved.

    The first is of its error, the second of the largest difference between rows of the same clip, which may not be
    above what the precision costs altogether. `exact` computes a clip of any length in fp32. Raises EngineError where a
    batch cannot be run.
    """
    outputs = [manifest.output(name) for name in manifest.proved(graph)]
    errors = {output.name: _Worst() for output in outputs}
    spreads = {output.name: _Worst() for output in outputs}
    for rows, samples, truths in _batches(session, manifest, graph, golden, exact):
        seconds = samples / manifest.sample_rate
        found, spread = _compare(session, manifest, outputs, truths, rows, samples)
        for output in outputs:
            errors[output.name].add(found[output.name], rows, seconds)
            spreads[output.name].add(spread[output.name], rows, seconds)
    return [
        *(_check(graph, name, worst, bound(graph, name)) for name, worst in errors.items()),
        *(_check(graph, f"{name}, equal rows", worst, bound(graph, name) / SLACK) for name, worst in spreads.items()),
    ]


def _check(graph: Graph, label: str, worst: _Worst, limit: float) -> Check:
    found = Check(graph.name, label, worst.alone, worst.batch, limit)
    return found if found.ok else replace(found, output=f"{label} in a batch of {worst.place}")


def _batches(
    session: ProfiledSession, manifest: Manifest, graph: Graph, golden: Sequence[Reference], exact: Exact | None
) -> Iterator[tuple[int, int, list[Reference]]]:
    """Yield the rows and samples of every batch that is run, with the clips that fill it and what they must give."""
    profiles = session.profiles
    outputs = [manifest.output(name) for name in manifest.proved(graph)]
    for index, profile in enumerate(profiles):
        # Where another profile begins, or this one ends.
        wider = profiles[index + 1].min_samples if index + 1 < len(profiles) else profile.max_samples
        for rows, samples in dict.fromkeys(profile.shapes):
            truths = [reference for reference in golden if len(reference[0]) <= samples]
            clip = _long(golden, samples)
            if exact is not None:
                truths.append((clip, _kept(manifest, exact(clip))))
            elif wider > samples:
                truths.append((clip, _kept(manifest, run_batch(session, [clip], outputs, NAN, wider)[0])))
            yield rows, samples, truths


def _long(golden: Sequence[Reference], samples: int) -> Clip:
    """Return a clip of so many samples: the golden clips one after the other, again and again."""
    return np.resize(np.concatenate([clip for clip, _ in golden]), samples)


def _compare(
    session: ProfiledSession,
    manifest: Manifest,
    outputs: Sequence[Output],
    truths: Sequence[Reference],
    rows: int,
    samples: int,
) -> tuple[dict[str, float], dict[str, float]]:
    """Run `truths` in batches of `rows`; return by output the largest error, and that of rows that should be equal."""
    errors = dict.fromkeys((output.name for output in outputs), 0.0)
    spreads = dict(errors)
    others = max(1, rows - 1)  # the last row has the clip of the first
    for first in range(0, max(others, len(truths)), others):
        tiles = [(first + row) % len(truths) for row in range(others)]
        tiles += tiles[: rows - others]
        clips = [truths[tile][0] for tile in tiles]
        computed = [_kept(manifest, row) for row in run_batch(session, clips, outputs, NAN, samples)]
        firsts: dict[int, Row] = {}
        for tile, row in zip(tiles, computed, strict=True):
            equal = firsts.setdefault(tile, row)
            for name, array in row.items():
                errors[name] = max(errors[name], error(array, truths[tile][1][name]))
                spreads[name] = max(spreads[name], error(array, equal[name]))
    return errors, spreads


def _kept(manifest: Manifest, row: Row) -> Row:
    """Return of each output what golden clips keep of it."""
    return {name: array[manifest.golden.cut(manifest.output(name))] for name, array in row.items()}
