"""The committed demo: its engines are those of its checkpoints, and they write what is said in the recordings."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.torch import load_file
from transformers import (
    ASTFeatureExtractor,
    ASTForAudioClassification,
    Gemma3nAudioEncoder,
    PreTrainedTokenizerFast,
    SEWForSequenceClassification,
    SpeechEncoderDecoderModel,
)

from demo.classifier import classify
from demo.german import translate
from demo.sentences import distinct
from demo.store import load
from demo.tasks import commands, events, words
from demo.tasks import translate as interpreter
from demo.voices import DEV_VARIANTS, TEST_VARIANTS, TRAIN_VARIANTS, draw_training_voice, variant_file
from demo.words import COMMANDS, UNKNOWN
from engines.engine import Engine
from engines.repository import find_engines
from export import checkpoint as checkpoints
from server.audio.decode import Bounds, decode
from server.decoding.ctc import CtcDecoder

DEMO = Path(__file__).parent.parent / "demo"
RECORDINGS = sorted((DEMO / "audio").glob("*.flac"))
NAMES = sorted(path.name for path in (DEMO / "checkpoints").iterdir())
SENTENCES = [sentence.text for sentence in distinct(400, random.Random(1), set())]


def test_a_dozen_recordings_with_their_words() -> None:
    assert len(RECORDINGS) >= 12
    assert all(path.with_suffix(".txt").read_text().strip() for path in (DEMO / "audio").rglob("*.flac"))
    assert all(1 < soundfile.info(path).duration < 6 for path in RECORDINGS)


def test_it_is_small() -> None:
    shipped = ("audio", "checkpoints", "engines")
    assert sum(path.stat().st_size for part in shipped for path in (DEMO / part).rglob("*") if path.is_file()) < 40e6


@pytest.mark.parametrize("name", NAMES)
def test_each_checkpoint_is_complete_and_its_card_has_figures(name: str) -> None:
    folder = DEMO / "checkpoints" / name
    assert json.loads((folder / "config.json").read_text())["architectures"]
    assert {"model.safetensors", "preprocessor_config.json"} <= {path.name for path in folder.iterdir()}
    assert "| measured | |" in (folder / "README.md").read_text()
    assert f"<!-- {name} -->\n| measured" in (DEMO / "README.md").read_text()


@pytest.mark.parametrize("name", NAMES)
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
    bounds = Bounds.of(engine.manifest, 60)
    clips = [
        np.concatenate([one.copy() for one in decode(io.BytesIO(path.read_bytes()), bounds)]) for path in RECORDINGS
    ]
    for path, row in zip(RECORDINGS, engine.run(clips, ["logits"]), strict=True):
        said = decoder.text(decoder.greedy(row["logits"]).tokens)
        assert said == path.with_suffix(".txt").read_text().strip()


def recordings(folder: str) -> list[tuple[np.ndarray, str]]:
    """Waveforms of `audio/folder` and what each says."""
    files = sorted((DEMO / "audio" / folder).glob("*.flac"))
    assert files
    return [(soundfile.read(file, dtype="float32")[0], file.with_suffix(".txt").read_text().strip()) for file in files]


def test_the_classifiers_name_the_recordings() -> None:
    sew = load(SEWForSequenceClassification, commands.FOLDER)
    for waveform, word in recordings("words"):
        assert classify(sew, waveform) == (word if word in COMMANDS else UNKNOWN)
    ast, features = load(ASTForAudioClassification, events.FOLDER), ASTFeatureExtractor.from_pretrained(events.FOLDER)
    for waveform, event in recordings("sounds"):
        assert events.name_event(ast, features, waveform) == event


def test_the_probe_names_the_words() -> None:
    encoder, probe = load(Gemma3nAudioEncoder, words.FOLDER), load_file(words.PROBE)
    for waveform, word in recordings("words"):
        assert words.named(words.embed(encoder, waveform), probe) == word


def test_the_translator_says_it_in_german() -> None:
    model = load(SpeechEncoderDecoderModel, interpreter.FOLDER)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(interpreter.FOLDER)
    heard = {path: path.with_suffix(".de.txt") for path in RECORDINGS}
    translated = {path: text.read_text().strip() for path, text in heard.items() if text.exists()}
    assert len(translated) >= 8
    for path, german in translated.items():
        assert interpreter.interpret(model, tokenizer, soundfile.read(path, dtype="float32")[0]) == german


def test_no_voice_is_in_two_splits() -> None:
    splits = [set(TRAIN_VARIANTS), set(DEV_VARIANTS), set(TEST_VARIANTS)]
    assert sum(map(len, splits)) == len(set.union(*splits))
    rng = random.Random(0)
    drawn = {draw_training_voice(rng).variant for _ in range(2000)}
    assert not drawn & (splits[1] | splits[2])


def test_a_generated_voice_is_the_same_each_time() -> None:
    assert variant_file(3) == variant_file(3) != variant_file(4)


@pytest.mark.parametrize(
    ("english", "german"),
    [
        ("switch on the lamp in the garage", "Schalte die Lampe in der Garage ein"),
        ("wake me at half past twelve tomorrow morning", "Wecke mich morgen früh um halb eins"),
        ("how do i get to the beach from home", "Wie komme ich von zu Hause zum Strand"),
        ("call my friend emma back in half an hour", "Rufe meine Freundin Emma in einer halben Stunde zurück"),
        ("we are out of cheese", "Wir haben keinen Käse mehr"),
        ("how much does the apples cost", "Wie viel kosten die Äpfel"),
        ("turn left in one miles", "Biege in einer Meile links ab"),
        ("set the kitchen lights to twenty one percent", "Stelle die Lichter in der Küche auf einundzwanzig Prozent"),
        ("thank you very much", None),
    ],
)
def test_translations(english: str, german: str | None) -> None:
    assert translate(english) == german


def test_most_commands_have_a_translation() -> None:
    translated = [translate(text) for text in SENTENCES]
    assert sum(text is not None for text in translated) > 0.6 * len(SENTENCES)
    assert all(text[0].isupper() and "{" not in text for text in translated if text)
