from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertModel, HubertModel

from export import families
from export.checkpoint import resolve
from export.errors import CheckpointError, UnsupportedError
from tests.support import make_checkpoint, write_tokenizer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def cache(folder: Path, hub: Path, name: str = "someone/speech") -> None:
    """Lay `folder` out as huggingface_hub's cache holds a repository."""
    repository = hub / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "speech", num_hidden_layers=1)


def test_a_folder_is_named_after_itself(folder: Path) -> None:
    checkpoint = resolve(str(folder))
    assert (checkpoint.source, checkpoint.name, checkpoint.revision) == ("speech", "speech", None)
    assert checkpoint.architecture == "HubertModel"


def test_a_hub_id_comes_from_the_cache_when_offline(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = tmp_path / "hub"
    cache(folder, hub)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    checkpoint = resolve("someone/speech")
    assert (checkpoint.source, checkpoint.name, checkpoint.revision) == ("someone/speech", "speech", COMMIT)
    assert resolve("someone/speech", revision=COMMIT).sha256 == checkpoint.sha256 == resolve(str(folder)).sha256
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE"):
        resolve("someone/else")


@pytest.mark.parametrize("name", ["no/such/folder", "a b", "", "../x y"])
def test_neither_folder_nor_hub_id(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "":
        with pytest.raises(CheckpointError, match="config"):
            _ = resolve(name).config
    else:
        with pytest.raises(CheckpointError, match="neither a folder nor a hub id"):
            resolve(name)


def test_a_revision_is_for_the_hub(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="--revision"):
        resolve(str(folder), revision="main")


def test_the_hash_covers_configuration_and_weights(folder: Path) -> None:
    before = resolve(str(folder)).sha256
    (folder / "README.md").write_text("a card is no part of the model")
    assert resolve(str(folder)).sha256 == before
    (folder / "preprocessor_config.json").write_text((folder / "preprocessor_config.json").read_text() + " ")
    assert resolve(str(folder)).sha256 != before


@pytest.mark.parametrize(
    ("card", "expected"),
    [("---\nlicense: apache-2.0\n---\n# Speech", "apache-2.0"), ("# Speech", None), ("---\n: [\n---\n", None)],
)
def test_the_licence_is_that_of_the_card(folder: Path, card: str, expected: str | None) -> None:
    assert resolve(str(folder)).license is None
    (folder / "README.md").write_text(card)
    assert resolve(str(folder)).license == expected


def test_pickled_weights_and_half_precision_are_read_in_fp32(folder: Path) -> None:
    state = {key: value.bfloat16() for key, value in load_file(folder / "model.safetensors").items()}
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    model = resolve(str(folder)).model("HubertModel")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not model.training


@pytest.mark.parametrize(
    ("missing", "match"),
    [
        ("config.json", "config.json"),
        ("preprocessor_config.json", "preprocessor_config.json"),
        ("model.safetensors", "weights"),
    ],
)
def test_a_missing_file_is_named(folder: Path, missing: str, match: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(CheckpointError, match=match):
        families.build(resolve(str(folder)))


def test_missing_weights_are_named_not_made_up(folder: Path) -> None:
    model = HubertModel.from_pretrained(folder)
    state = {key: value for key, value in model.state_dict().items() if "final_layer_norm" not in key}
    model.save_pretrained(folder, state_dict=state)
    with pytest.raises(CheckpointError, match=r"lacks weights of HubertModel.*final_layer_norm"):
        families.build(resolve(str(folder)))


def test_what_is_not_exported_is_refused_by_name(tmp_path: Path) -> None:
    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedError, match=r"'bert'.*hubert"):
        families.build(resolve(str(tmp_path)))


def test_a_class_that_is_not_exported_is_refused_by_name(folder: Path) -> None:
    config = folder / "config.json"
    config.write_text(config.read_text().replace("HubertModel", "HubertForDancing"))
    with pytest.raises(UnsupportedError, match=r"HubertForDancing.*HubertForCTC"):
        families.build(resolve(str(folder)))


def test_ctc_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, "HubertForCTC", num_hidden_layers=1)
    for name in ("vocab.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match="tokenizer"):
        families.build(resolve(str(folder)))


def test_one_vocabulary_per_language_asks_for_a_language(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, "HubertForCTC", num_hidden_layers=1)
    words: dict[str, Any] = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4}
    write_tokenizer(folder, {"deu": words, "eng": words}, target_lang="deu")
    with pytest.raises(CheckpointError, match="--target-lang: deu, eng"):
        families.build(resolve(str(folder)))


def test_a_language_needs_adapters(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, "HubertForCTC", num_hidden_layers=1)
    with pytest.raises(UnsupportedError, match="no attention adapters"):
        families.build(resolve(str(folder), target_lang="deu"))
