from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, HubertModel

from export import families
from export.checkpoint import resolve
from export.errors import CheckpointError, ExportError, UnsupportedError
from tests.support import make_checkpoint, write_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "speech", num_hidden_layers=1)


def test_a_folder_is_named_after_itself(folder: Path) -> None:
    checkpoint = resolve(str(folder))
    assert (checkpoint.source, checkpoint.name, checkpoint.revision) == ("speech", "speech", None)
    assert checkpoint.architecture == "HubertModel"


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


def edit(folder: Path, name: str, **values: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def pickled(folder: Path, name: str, content: bytes) -> None:
    (folder / "model.safetensors").unlink(missing_ok=True)
    (folder / name).write_bytes(content)


class Trap:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (Path("executed"),)


# What is done to a HubertForSequenceClassification's or HubertForCTC's folder, and what the error says.
MALFORMED: dict[str, tuple[str, Callable[[Path], object], type[ExportError], str]] = {
    "truncated weights": (
        "CTC",
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:5000]),
        CheckpointError,
        "model.safetensors cannot be read",
    ),
    "empty weights": (
        "CTC",
        lambda f: (f / "model.safetensors").write_bytes(b""),
        CheckpointError,
        "model.safetensors cannot be read",
    ),
    "garbage": (
        "CTC",
        lambda f: pickled(f, "pytorch_model.bin", b"garbage"),
        CheckpointError,
        "pytorch_model.bin cannot be read",
    ),
    "a program": (
        "CTC",
        lambda f: pickled(f, "pytorch_model.bin", pickle.dumps(Trap(), protocol=2)),
        CheckpointError,
        "pytorch_model.bin cannot be read.*never executed",
    ),
    "a size in letters": (
        "CTC",
        lambda f: edit(f, "config.json", hidden_size="abc"),
        CheckpointError,
        "config.json cannot be read.*hidden_size.*expected int",
    ),
    "lists of unequal length": (
        "CTC",
        lambda f: edit(f, "config.json", conv_dim=[24, 24]),
        CheckpointError,
        "config.json cannot be read.*conv_stride",
    ),
    "stride 0": (
        "CTC",
        lambda f: edit(f, "config.json", conv_stride=[0, 4, 4, 4]),
        CheckpointError,
        "config.json: conv_stride",
    ),
    "no layers": (
        "CTC",
        lambda f: edit(f, "config.json", num_hidden_layers=0),
        UnsupportedError,
        "config.json: num_hidden_layers is 0",
    ),
    "an activation": ("CTC", lambda f: edit(f, "config.json", hidden_act="no"), UnsupportedError, "activation 'no'"),
    "heads that do not divide": (
        "CTC",
        lambda f: edit(f, "config.json", num_attention_heads=5),
        CheckpointError,
        "config.json.*num_heads",
    ),
    "a preprocessor that is a list": (
        "CTC",
        lambda f: (f / "preprocessor_config.json").write_text("[]"),
        CheckpointError,
        r"preprocessor_config\.json",
    ),
    "another feature extractor": (
        "CTC",
        lambda f: edit(f, "preprocessor_config.json", feature_extractor_type="SeamlessM4TFeatureExtractor"),
        UnsupportedError,
        "SeamlessM4TFeatureExtractor",
    ),
    "two channels": (
        "CTC",
        lambda f: edit(f, "preprocessor_config.json", feature_size=2),
        UnsupportedError,
        "feature_size is 2",
    ),
    "a sampling rate in letters": (
        "CTC",
        lambda f: edit(f, "preprocessor_config.json", sampling_rate="x"),
        CheckpointError,
        "preprocessor_config.json: sampling_rate",
    ),
    "a vocabulary that is a list": (
        "CTC",
        lambda f: (f / "vocab.json").write_text("[]"),
        CheckpointError,
        "vocab.json",
    ),
    "a tokenizer that is a list": (
        "CTC",
        lambda f: (f / "tokenizer_config.json").write_text("[]"),
        CheckpointError,
        "tokenizer_config.json",
    ),
    "no pad token": (
        "CTC",
        lambda f: edit(f, "tokenizer_config.json", pad_token=None),
        CheckpointError,
        "tokenizer_config.json: the pad token None",
    ),
    "a pad token of which the model has no logits": (
        "CTC",
        lambda f: edit(f, "tokenizer_config.json", pad_token="more"),  # noqa: S106
        CheckpointError,
        "tokenizer_config.json: the pad token 'more'.*the id 32",
    ),
    "a problem type": (
        "SequenceClassification",
        lambda f: edit(f, "config.json", problem_type="guess"),
        CheckpointError,
        "config.json.*guess",
    ),
    "labels with a gap": (
        "SequenceClassification",
        lambda f: edit(f, "config.json", id2label={"0": "a", "2": "b"}),
        CheckpointError,
        "config.json: the ids of id2label",
    ),
}


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heads")
    for head in ("CTC", "SequenceClassification"):
        make_checkpoint(folder / head, f"HubertFor{head}", num_hidden_layers=1)
    return folder


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_file_is_named(heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    head, damage, error, message = MALFORMED[case]
    folder = Path(shutil.copytree(heads / head, tmp_path / "speech"))
    monkeypatch.chdir(tmp_path)
    damage(folder)
    with pytest.raises(error, match=message):
        families.build(resolve(str(folder)))
    assert [path.name for path in tmp_path.iterdir()] == ["speech"]


ADAPTED: dict[str, Any] = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "adapter_attn_dim": 6}


@pytest.mark.parametrize("damage", ["garbage", "a program", "a list", "a head of one axis", "not in vocab.json"])
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_a_malformed_adapter_is_named(tmp_path: Path, damage: str, suffix: str) -> None:
    folder = make_checkpoint(tmp_path / "speech", "HubertForCTC", num_hidden_layers=1, **ADAPTED)
    adapter = folder / f"adapter.deu.{suffix}"
    state = load_file(folder / "model.safetensors")
    state = {key: value for key, value in state.items() if ".adapter_layer." in key or key.startswith("lm_head.")}
    if damage == "a head of one axis":
        state["lm_head.weight"] = state["lm_head.weight"][0].clone()
    if damage == "not in vocab.json":
        write_tokenizer(folder, {"eng": {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4}}, target_lang="eng")
    if suffix == "safetensors":
        save_file(state, adapter)
    else:
        torch.save(["a list"] if damage == "a list" else state, adapter)
    if damage == "garbage" or (suffix == "safetensors" and damage == "a list"):
        adapter.write_bytes(b"garbage")
    if damage == "a program":
        adapter.write_bytes(pickle.dumps(Trap(), protocol=2))
    message = r"vocab\.json.*deu does not exist" if damage == "not in vocab.json" else rf"adapter\.deu\.{suffix}"
    with pytest.raises(CheckpointError, match=message):
        families.build(resolve(str(folder), target_lang="deu"))


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer_config.json"])
def test_code_beside_a_checkpoint_never_runs(heads: Path, tmp_path: Path, name: str) -> None:
    """Neither silently nor after a question: a prompt would read from the closed standard input."""
    folder = Path(shutil.copytree(heads / "CTC", tmp_path / "speech"))
    (folder / "evil.py").write_text("from pathlib import Path\nPath('executed').mkdir()\n")
    kinds = {
        "config.json": {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}},
        "preprocessor_config.json": {
            "feature_extractor_type": "Evil",
            "auto_map": {"AutoFeatureExtractor": "evil.Evil"},
        },
        "tokenizer_config.json": {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", None]}},
    }
    edit(folder, name, **kinds[name])
    code = (
        f"from export import families; from export.checkpoint import resolve; families.build(resolve({str(folder)!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input="y\ny\ny\n",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "HF_MODULES_CACHE": str(tmp_path / "modules")},
    )
    assert "y/N" not in done.stdout + done.stderr
    assert not (tmp_path / "executed").exists()
    assert done.returncode == 0 or "CheckpointError" in done.stderr, done.stderr


def test_what_only_training_needs_may_be_missing(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["masked_spec_embed"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
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
