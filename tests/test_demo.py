"""The committed demo: its engines are those of its checkpoints, and they write what is said in the recordings."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile

from engines.engine import Engine
from engines.repository import find_engines
from export import checkpoint as checkpoints
from server.audio import Bounds, decode
from server.decoding.ctc import CtcDecoder

DEMO = Path(__file__).parent.parent / "demo"
RECORDINGS = sorted((DEMO / "audio").glob("*.flac"))


def test_a_dozen_recordings_with_their_words() -> None:
    assert len(RECORDINGS) >= 12
    assert all(path.with_suffix(".txt").read_text().strip() for path in RECORDINGS)
    assert all(1 < soundfile.info(path).duration < 6 for path in RECORDINGS)


def test_it_is_small() -> None:
    shipped = ("audio", "checkpoints", "engines")
    assert sum(path.stat().st_size for part in shipped for path in (DEMO / part).rglob("*") if path.is_file()) < 12e6


@pytest.mark.parametrize("name", ["hubert-ctc-english", "hubert-intent-english"])
def test_each_engine_verifies_and_is_that_of_its_checkpoint(name: str) -> None:
    engine = Engine(find_engines(DEMO / "engines")[name])
    for graph in engine.graphs:
        engine.load(graph)
        assert all(check.ok for check in engine.checks[graph.name])
    assert engine.manifest.checkpoint.sha256 == checkpoints.resolve(str(DEMO / "checkpoints" / name)).sha256
    assert engine.manifest.checkpoint.license == "apache-2.0"


def test_the_engine_writes_what_is_said() -> None:
    engine = Engine(DEMO / "engines" / "hubert-ctc-english")
    assert engine.manifest.ctc is not None
    decoder = CtcDecoder(engine.manifest.ctc)
    clips = [decode(path.read_bytes(), Bounds.of(engine.manifest, 60)) for path in RECORDINGS]
    for path, row in zip(RECORDINGS, engine.run(clips, ["logits"]), strict=True):
        assert decoder.greedy(row["logits"]).text == path.with_suffix(".txt").read_text().strip()
