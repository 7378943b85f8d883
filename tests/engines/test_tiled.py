"""What is compared of a plan's batches; that faults of whole plans are found is tested in tests/bindings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines import tiled
from engines.batch import Row
from engines.manifest import Manifest, Profile
from engines.verify import SLACK, Check, Reference

ENGINE = Path(__file__).parents[2] / "demo" / "engines" / "hubert-intent-english"
HOP = 320
Arrays = dict[str, NDArray[Any]]


def profile(before: int, last: int, rows: int) -> Profile:
    return Profile(
        min_samples=before + 1,
        opt_samples=last,
        max_samples=last,
        min_rows=1,
        opt_rows=max(1, rows // 2),
        max_rows=rows,
    )


PROFILES = (profile(400, 4000, 6), profile(4000, 16000, 5), profile(16000, 32000, 2))


class Means:
    """An encoder: the mean of each hop is its embedding, padding is not read; `fault` changes what comes out."""

    def __init__(self, fault: Callable[[NDArray[np.float32], Arrays], None] = lambda waveform, arrays: None) -> None:
        self.device, self.fault = "cuda", fault
        self.profiles: tuple[Profile, ...] = PROFILES
        self.inputs: tuple[str, ...] = ("waveform", "lengths")
        self.outputs: tuple[str, ...] = ("embeddings", "frames")
        self.shapes: list[tuple[int, ...]] = []

    def run(self, waveform: NDArray[np.float32], lengths: NDArray[np.int64], outputs: Sequence[str]) -> Arrays:
        self.shapes.append(waveform.shape)
        arrays: Arrays = {"embeddings": means(waveform), "frames": lengths // HOP}
        self.fault(waveform, arrays)
        return {name: arrays[name] for name in outputs}


def means(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    frames = waveform.shape[1] // HOP
    blocks: NDArray[np.float32] = waveform[:, : frames * HOP].reshape(len(waveform), frames, HOP)
    return np.asarray(blocks.mean(-1, keepdims=True), np.float32)


def embedding(clip: NDArray[np.float32]) -> Row:
    return {"embeddings": means(clip[None])[0]}


GENERATOR = np.random.default_rng(3)
GOLDEN: list[Reference] = [
    (clip, embedding(clip)) for clip in (GENERATOR.standard_normal(size, np.float32) for size in (20000, 9000))
]


def manifest() -> Manifest:
    """An engine with one output of one feature."""
    data = Manifest.read(ENGINE).model_dump()
    [full] = data["graphs"]
    outputs = [{"name": "embeddings", "shape": ["batch", "frames", 1], "lengths": "frames", "samples_per_frame": HOP}]
    graph = {**full, "outputs": ["embeddings"], "errors": {"embeddings": 1e-4}, "precision": "fp16", "name": "fp16"}
    base = {**full, "outputs": ["embeddings"], "errors": {"embeddings": 0.0}}
    changed = {"outputs": outputs, "graphs": [base, graph], "tasks": ["encode"], "classification": None}
    golden = {**data["golden"], "outputs": ["embeddings"], "clips": len(GOLDEN)}
    return Manifest.model_validate({**data, **changed, "golden": golden})


def check(session: Means, exact: tiled.Exact | None = None) -> list[Check]:
    engine = manifest()
    return tiled.check(session, engine, engine.graphs[1], GOLDEN, exact)


@pytest.mark.parametrize("exact", [None, embedding])
def test_every_batch_is_run(exact: tiled.Exact | None) -> None:
    session = Means()
    checks = check(session, exact)
    assert [(each.output, each.ok) for each in checks] == [("embeddings", True), ("embeddings, equal rows", True)]
    assert checks[0].bound == SLACK * checks[1].bound == pytest.approx(4e-4)
    asked = {shape for each in PROFILES for shape in each.shapes}
    assert asked <= set(session.shapes)
    # With nothing exact at hand, clips as long as a batch are run in wider ones too.
    wider = {(1, 4001), (1, 16001), (1, 32000)} - asked
    assert set(session.shapes) == asked | (set() if exact else wider)


def spoiled(**where: Any) -> Callable[[NDArray[np.float32], Arrays], None]:
    """Return what spoils batches of so many rows or samples, all of them or one row, by a share of what there is."""

    def fault(waveform: NDArray[np.float32], arrays: Arrays) -> None:
        rows, samples = waveform.shape
        if rows == where.get("rows", rows) and samples == where.get("samples", samples):
            chosen = slice(None) if "row" not in where else slice(where["row"], where["row"] + 1)
            arrays["embeddings"][chosen] *= np.float32(1 + where.get("by", 0.01))

    return fault


@pytest.mark.parametrize(
    ("where", "output"),
    [
        ({"rows": 1, "samples": 401}, "embeddings in a batch of 1 x 0.03 s"),
        ({"rows": 5, "samples": 16000}, "embeddings in a batch of 5 x 1.00 s"),
        ({"rows": 2, "row": 1}, "embeddings in a batch of 2 x 1.00 s"),
        ({"samples": 4000}, "embeddings in a batch of 3 x 0.25 s"),
        ({"by": np.nan}, "embeddings in a batch of 1 x 0.03 s"),
    ],
)
def test_one_wrong_batch_is_found(where: dict[str, Any], output: str) -> None:
    checks = check(Means(spoiled(**where)))
    assert not checks[0].ok
    assert checks[0].output == output


def test_equal_rows_must_be_equal_even_where_each_is_within_the_bound() -> None:
    checks = check(Means(spoiled(rows=5, row=4, by=2e-4)))
    assert [each.ok for each in checks] == [True, False]
    assert checks[1].output == "embeddings, equal rows in a batch of 5 x 1.00 s"


def test_padding_that_is_read_is_found() -> None:
    def fault(waveform: NDArray[np.float32], arrays: Arrays) -> None:
        arrays["embeddings"][:, 0] += np.isnan(waveform).mean(dtype=np.float32) / 10

    assert not check(Means(fault))[0].ok


def test_what_is_wrong_in_long_clips_only_is_found() -> None:
    """The golden clips end after 20,000 samples: what comes behind them in a batch is proved by other means."""

    def fault(waveform: NDArray[np.float32], arrays: Arrays) -> None:
        arrays["embeddings"][:, 80:] *= 1.01

    assert check(Means(fault))[0].ok  # the widest profile agrees with itself
    assert not check(Means(fault), embedding)[0].ok  # for that there is the exact graph when it is built
