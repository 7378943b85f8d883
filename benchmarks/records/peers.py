"""The same work on what users would pick instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from benchmarks.base import Model, Run, Table
from benchmarks.charts.chart import Bar, Bars, Chart, file_name
from benchmarks.findings import Promise
from benchmarks.stats import Estimate, Timing, mean_of

Precision = Literal["fp32", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
TRUTH = "transformers"  # the peer whose results on one unpadded clip are right
PADDED = ", padded batch"  # ends the name of a peer that runs several clips as one

# What is promised. Ratios are times of a peer over those of an engine: above 1 the engine is faster.
EXACT_MEAN, EXACT_LEAST = 1.0, 0.95  # fp32 against the best fp32 peer: geometric mean of all cells, and each of them
REDUCED_MEAN = 1.9  # other precisions against the best fp32 peer, on each model
REDUCED_MEANS = {"hubert-base": 2.4}
RIVAL_MEAN = 1.0  # other precisions against the best peer at the same
CLOSE = 0.999  # the least cosine at which a form of another precision counts, ours or a peer's


class Contestant(Model):
    """Someone who was compared, or could not be."""

    name: str
    is_ours: bool
    precision: Precision
    setup: str
    versions: dict[str, str]
    reason: str = ""  # why it was left out


class Turn(Model):
    """A contestant in one cell."""

    name: str
    rounds: int
    time: Timing
    ratio: Estimate  # the best fp32 peer / this
    rival: Estimate | None = None  # the best peer at the same precision / this; None where there is none
    error: float  # of the embeddings, against transformers on one unpadded clip: the worst clip
    cosine: float


class Group(Model):
    """The contestants of one precision on the same clips, timed in turn; transformers and the best fp32 peer too."""

    clips: str  # such as "10 s"
    audio_seconds: float
    precision: Precision
    reference: str  # the best fp32 peer
    turns: tuple[Turn, ...]
    failed: dict[str, str]  # contestants that have no time here, and why

    def find(self, name: str) -> Turn | None:
        """Return the turn of a contestant."""
        return next((turn for turn in self.turns if turn.name == name), None)


class ModelPeers(Model):
    """One model in all hands."""

    model: str
    parameters: int
    key: str  # what the figures hold for: a run of another does not go on with them
    contestants: tuple[Contestant, ...] = ()
    groups: tuple[Group, ...] = ()

    def cells(self) -> list[str]:
        """Return what clips there were."""
        return list(dict.fromkeys(group.clips for group in self.groups))

    def turns(self, name: str) -> list[Turn]:
        """Return the turns of a contestant in the groups of its own precision."""
        precision = next(one.precision for one in self.contestants if one.name == name.removesuffix(PADDED))
        found = (group.find(name) for group in self.groups if group.precision == precision)
        return [turn for turn in found if turn is not None]

    def names(self) -> Iterator[str]:
        """Yield the contestants, and right behind each its padded batch where it was timed."""
        timed = {turn.name for group in self.groups for turn in group.turns}
        for one in self.contestants:
            yield from (name for name in (one.name, one.name + PADDED) if name in timed)

    def best(self, precisions: Iterable[Precision]) -> tuple[str, Estimate] | None:
        """Return our fastest form of these precisions that took part everywhere, with its mean ratio."""
        means: dict[str, Estimate] = {}
        for one in self.contestants:
            turns = self.turns(one.name)
            is_close = one.precision == "fp32" or all(turn.cosine >= CLOSE for turn in turns)
            if one.is_ours and one.precision in precisions and is_close and len(turns) == len(self.cells()):
                means[one.name] = mean_of([turn.ratio for turn in turns])
        return max(means.items(), key=lambda item: item[1].value, default=None)


class PeerEngines(Model):
    """Models of true size in all hands."""

    benchmark: Literal["peer-engines"] = "peer-engines"
    run: Run
    models: tuple[ModelPeers, ...] = ()
    complete: bool = False

    @property
    def title(self) -> str:
        """A heading."""
        return f"Engines and their peers, {self.run.threads} thread{'s' * (self.run.threads > 1)}"

    @property
    def table(self) -> Table:
        """A row for each contestant of each model, a column for each kind of clips."""
        cells = list(dict.fromkeys(cell for model in self.models for cell in model.cells()))
        rows = []
        for model in self.models:
            exact = {group.clips: group for group in model.groups if group.precision == "fp32"}
            rows.append(
                [model.model, "best fp32 peer", "fp32", *(_reference(exact.get(cell)) for cell in cells), "", ""]
            )
            for name in model.names():
                turns = model.turns(name)
                precision = next(one.precision for one in model.contestants if name.removesuffix(PADDED) == one.name)
                own = {group.clips: group.find(name) for group in model.groups if group.precision == precision}
                worst = f"{max(turn.error for turn in turns):.1e}", f"{min(turn.cosine for turn in turns):.5f}"
                rows.append([model.model, name, precision, *(_ratio(own.get(cell)) for cell in cells), *worst])
        return ["model", "contestant", "precision", *cells, "error", "cosine"], rows

    @property
    def summary(self) -> str:
        """The figures that count."""
        return " ".join(
            [
                "The columns of clips: how often as fast as the fastest peer whose fp32 results are right, which the "
                "first row of each model names; all of one precision, that peer and transformers are timed in turn, "
                "each in a process of its own. From waveforms to embeddings, features and all.",
                f"Set up: {self._setups()}.",
                "Error and cosine: the worst clip of all columns, against transformers on that clip alone.",
                *[
                    f"{each.what}: {each.found}, promised is {each.promised} ({'kept' if each.kept else 'MISSED'})."
                    for each in self.promises
                ],
                *[f"Not run: {left}." for left in [self._left_out()] if left],
                *["The run was stopped before its end."] * (not self.complete),
            ]
        )

    @property
    def promises(self) -> tuple[Promise, ...]:
        """How our best forms stand beside the best of the others."""
        return tuple(self._promises())

    def _promises(self) -> Iterator[Promise]:
        yield from self._exact()
        for model in self.models:
            aim = REDUCED_MEANS.get(model.model, REDUCED_MEAN)
            found = model.best(("bf16", "int8"))
            if found is not None:
                yield _promise(f"{found[0]} on {model.model}, over the best fp32 peer", found[1], aim)
            for precision in PRECISIONS[1:]:
                yield from _against_rivals(model, precision)

    def _exact(self) -> Iterator[Promise]:
        chosen = [(model, found[0]) for model in self.models if (found := model.best(("fp32",)))]
        ratios = {
            f"{model.model}, {group.clips}": turn.ratio
            for model, name in chosen
            for group in model.groups
            if group.precision == "fp32" and (turn := group.find(name)) is not None
        }
        if not ratios:
            return
        cell, least = min(ratios.items(), key=lambda item: item[1].value)
        names = ", ".join(f"{name.removeprefix('Sonant ')} on {model.model}" for model, name in chosen)
        what = f"exact engines ({names}) over the best fp32 peer"
        yield _promise(f"{what}, geometric mean", mean_of(list(ratios.values())), EXACT_MEAN)
        yield _promise(f"{what}, least cell ({cell})", least, EXACT_LEAST)

    def _setups(self) -> str:
        every = {one.name: one for model in self.models for one in model.contestants if not one.is_ours}
        return "; ".join(
            f"{one.name}: {one.setup} ({', '.join(f'{name} {number}' for name, number in one.versions.items())})"
            for one in every.values()
            if one.versions and not one.reason
        )

    def _left_out(self) -> str:
        reasons = [
            *((one.name, one.reason, model.model) for model in self.models for one in model.contestants if one.reason),
            *(
                (name, reason, f"{model.model}, {group.clips}")
                for model in self.models
                for group in model.groups
                for name, reason in group.failed.items()
            ),
        ]
        where: dict[tuple[str, str], list[str]] = {}
        for name, reason, place in reasons:
            where.setdefault((name, reason), []).append(place)
        return "; ".join(f"{name} ({', '.join(places)}): {reason}" for (name, reason), places in where.items())

    @property
    def charts(self) -> tuple[Chart, ...]:
        """For each model how fast everyone is in the mean of all clips."""
        return tuple(_chart(model) for model in self.models if model.groups)


def _chart(model: ModelPeers) -> Bars:
    rows = []
    for precision in PRECISIONS:
        for one in model.contestants:
            turns = model.turns(one.name)
            if one.precision == precision and len(turns) == len(model.cells()):
                mean = mean_of([turn.ratio for turn in turns])
                rows.append(Bar(one.name, mean.value, mean.low, mean.high, precision))
    return Bars(
        name=file_name("peers", model.model),
        title=f"{model.model}: engines and their peers",
        alt=f"How often as fast as the best fp32 peer on {model.model}: "
        + ", ".join(f"{row.label} {row.value:.2f}" for row in rows),
        x_label="times as fast as the best fp32 peer, geometric mean over all clips",
        rows=tuple(rows),
        reference=1.0,
    )


def _against_rivals(model: ModelPeers, precision: Precision) -> Iterator[Promise]:
    found = model.best((precision,))
    if found is None:
        return
    ratios = [turn.rival for turn in model.turns(found[0]) if turn.rival is not None]
    if ratios:
        yield _promise(f"{found[0]} on {model.model}, over the best {precision} peer", mean_of(ratios), RIVAL_MEAN)


def _promise(what: str, ratio: Estimate, aim: float) -> Promise:
    return Promise(what, f"at least {aim:g}x", str(ratio), ratio.value >= aim)


def _reference(group: Group | None) -> str:
    turn = group.find(group.reference) if group else None
    return f"{turn.name}, {turn.time.median_ms:.0f} ms" if turn else "-"


def _ratio(turn: Turn | None) -> str:
    return f"{turn.ratio.value:.2f} ({turn.ratio.low:.2f} to {turn.ratio.high:.2f})" if turn else "-"
