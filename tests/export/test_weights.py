from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import HubertModel

from export import families
from export.checkpoint import resolve
from export.errors import CheckpointError
from export.weights import is_weights, weight_files
from tests.support import make_checkpoint

SAFE, PICKLED = "model.safetensors", "pytorch_model.bin"
SAFE_INDEX, PICKLED_INDEX = f"{SAFE}.index.json", f"{PICKLED}.index.json"


def write_index(folder: Path, weight_map: object, name: str = SAFE_INDEX) -> None:
    (folder / name).write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ([SAFE, SAFE_INDEX, PICKLED, PICKLED_INDEX], [SAFE]),
        ([SAFE_INDEX, PICKLED, PICKLED_INDEX, "model.fp16.safetensors"], ["1.safetensors", "2.safetensors"]),
        ([PICKLED, PICKLED_INDEX, "tf_model.h5"], [PICKLED]),
        ([PICKLED_INDEX], ["1.bin"]),
        (["tf_model.h5"], [SAFE]),
    ],
)
def test_the_order_is_that_of_transformers(tmp_path: Path, there: list[str], expected: list[str]) -> None:
    write_index(tmp_path, {"a": "2.safetensors", "b": "1.safetensors", "c": "2.safetensors"})
    write_index(tmp_path, {"a": "1.bin"}, PICKLED_INDEX)
    assert weight_files(tmp_path, there) == expected


def test_of_shards_only_those_with_what_is_wanted(tmp_path: Path) -> None:
    write_index(tmp_path, {"text.weight": "1", "audio.weight": "2", "audio.bias": "3", "vision.weight": "3"})
    assert weight_files(tmp_path, [SAFE_INDEX], lambda name: name.startswith("audio.")) == ["2", "3"]
    assert weight_files(tmp_path, [SAFE], lambda name: name.startswith("audio.")) == [SAFE]
    with pytest.raises(CheckpointError, match="names none of the tensors"):
        weight_files(tmp_path, [SAFE_INDEX], lambda name: False)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"weight_map": null}',
        '{"weight_map": ["a"]}',
        '{"weight_map": {"a": null}}',
        '{"weight_map": {"a": ["b"]}}',
        '{"weight_map": {}}',
        '{"weight_map": {"a": "../b"}}',
        '{"weight_map": {"a": "/b"}}',
        '{"weight_map": {"a": ""}}',
    ],
)
def test_a_malformed_index_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / SAFE_INDEX).write_text(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json"):
        weight_files(tmp_path, [SAFE_INDEX])


def test_a_missing_shard_of_a_folder_is_named(tmp_path: Path) -> None:
    whole = make_checkpoint(tmp_path / "whole", num_hidden_layers=1)
    folder = Path(shutil.copytree(whole, tmp_path / "speech", ignore=shutil.ignore_patterns(SAFE)))
    HubertModel.from_pretrained(whole).save_pretrained(folder, max_shard_size="20KB")
    shards = sorted(folder.glob("*.safetensors"))
    assert resolve(str(folder)).weights() == shards
    shards[1].unlink()
    with pytest.raises(CheckpointError, match=rf"{shards[1].name} is missing"):
        families.build(resolve(str(folder)))


def test_what_weights_are_called() -> None:
    assert all(map(is_weights, (SAFE, PICKLED, "model-00001-of-00002.safetensors", "pytorch_model-00001-of-00002.bin")))
    assert not any(map(is_weights, (SAFE_INDEX, "adapter.deu.safetensors", "tf_model.h5", "config.json")))
