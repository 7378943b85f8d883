from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Gemma3nAudioFeatureExtractor, Gemma3nConfig

from export import checkpoint as checkpoints
from export import families
from export.errors import CheckpointError, UnsupportedError
from export.exportable import Exportable
from tests.support import noise
from tests.zoo.usm import write

TEXT, AUDIO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


def write_full(folder: Path, alone: Path, prefix: str = "model.audio_tower.", nested: bool = False) -> Path:
    """Write a full checkpoint around the encoder `alone`; of its language model there is only a mention."""
    folder.mkdir()
    audio = json.loads((alone / "config.json").read_text())
    Gemma3nConfig(audio_config=audio, architectures=["Gemma3nForConditionalGeneration"]).save_pretrained(folder)
    weights = {f"{prefix}{name}": tensor for name, tensor in load_file(alone / "model.safetensors").items()}
    embedding = "model.embed_audio.embedding.weight"  # beside the tower, not of it
    save_file({**weights, embedding: torch.full((4, 4), torch.nan)}, folder / AUDIO)
    shards = dict.fromkeys((*weights, embedding), AUDIO)
    shards["model.language_model.embed_tokens.weight"] = TEXT
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    settings = json.loads((alone / "preprocessor_config.json").read_text())
    if nested:  # as Gemma3nProcessor saves it in transformers 5, else as the published checkpoints have it
        name, settings = "processor_config.json", {"processor_class": "Gemma3nProcessor", "feature_extractor": settings}
    else:
        name, settings = "preprocessor_config.json", {"image_processor_type": "SiglipImageProcessorFast", **settings}
    (folder / name).write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("usm"), "Gemma3nAudioEncoder", conf_num_hidden_layers=1)


def build(folder: Path) -> Exportable:
    return families.build(checkpoints.resolve(str(folder)))


def assert_same(full: Exportable, alone: Exportable) -> None:
    clip = noise(5000)
    for name, array in alone.reference(clip).items():
        np.testing.assert_array_equal(full.reference(clip)[name], array)
    theirs = alone.module.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in full.module.state_dict().items())
    assert full.preprocessor == alone.preprocessor


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("prefix", ["model.audio_tower.", "audio_tower."])
@pytest.mark.parametrize("language", ["missing", "huge", "garbage"])
def test_of_a_full_checkpoint_only_the_audio_tower_is_read(
    alone: Path, tmp_path: Path, prefix: str, nested: bool, language: str
) -> None:
    folder = write_full(tmp_path / "full", alone, prefix, nested)
    if language == "huge":  # a terabyte of nothing, of which no disk holds a block
        with (folder / TEXT).open("wb") as file:
            file.truncate(10**12)
    if language == "garbage":
        (folder / TEXT).write_bytes(b"garbage")
    checkpoint = checkpoints.resolve(str(folder))
    full = families.build(checkpoint)
    assert_same(full, build(alone))
    assert checkpoint.architecture == "Gemma3nForConditionalGeneration"
    assert len(checkpoint.sha256) == 64  # over what was read


def test_one_file_of_everything(alone: Path, tmp_path: Path) -> None:
    folder = write_full(tmp_path / "full", alone)
    (folder / AUDIO).rename(folder / "model.safetensors")
    (folder / INDEX).unlink()
    assert_same(build(folder), build(alone))


def test_no_language_model_is_built(alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **settings: Any) -> None:
        pytest.fail("a full model was built")

    for name in ("Gemma3nModel", "Gemma3nForConditionalGeneration", "Gemma3nTextModel"):
        monkeypatch.setattr(f"transformers.models.gemma3n.modeling_gemma3n.{name}.__init__", fail)
    build(write_full(tmp_path / "full", alone))


def test_what_lacks_the_tower_is_refused(alone: Path, tmp_path: Path) -> None:
    folder = write_full(tmp_path / "full", alone, prefix="model.other_tower.")
    with pytest.raises(CheckpointError, match=r"index\.json names none of the tensors"):
        build(folder)
    (folder / AUDIO).rename(folder / "model.safetensors")
    (folder / INDEX).unlink()
    with pytest.raises(CheckpointError, match="no tensor of audio_tower"):
        build(folder)


def test_a_tower_that_lacks_a_weight_or_is_damaged_is_refused(alone: Path, tmp_path: Path) -> None:
    folder = write_full(tmp_path / "full", alone)
    weights = load_file(folder / AUDIO)
    del weights["model.audio_tower.conformer.0.norm.weight"]
    save_file(weights, folder / AUDIO)
    with pytest.raises(CheckpointError, match=r"lacks weights of Gemma3nAudioEncoder: conformer\.0\.norm\.weight"):
        build(folder)
    (folder / AUDIO).write_bytes(b"garbage")
    with pytest.raises(CheckpointError, match=AUDIO):
        build(folder)
    (folder / AUDIO).unlink()
    with pytest.raises(CheckpointError, match=f"{AUDIO} is missing"):
        build(folder)


def test_pickles_are_refused(alone: Path, tmp_path: Path) -> None:
    folder = write_full(tmp_path / "full", alone)
    torch.save(load_file(folder / AUDIO), folder / "pytorch_model.bin")
    (folder / AUDIO).unlink()
    (folder / INDEX).unlink()
    with pytest.raises(UnsupportedError, match=r"pytorch_model\.bin.*safetensors only"):
        build(folder)


def test_the_extractor_of_a_full_checkpoint_is_the_one_for_audio(alone: Path, tmp_path: Path) -> None:
    extractor = checkpoints.resolve(str(write_full(tmp_path / "full", alone, nested=True))).feature_extractor()
    assert isinstance(extractor, Gemma3nAudioFeatureExtractor)
