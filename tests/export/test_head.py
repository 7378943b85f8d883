from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from engines.verify import error, proved
from export import families
from export.checkpoint import Checkpoint, resolve
from export.errors import CheckpointError, ExportError, UnsupportedError
from export.exportable import Exportable, Options
from export.exporter import export
from export.head import read_head
from export.parity import TOLERANCE
from tests.export.exactness import assert_engine_exact, assert_exact, run
from tests.support import noise
from tests.zoo import Kind, kinds

HIDDEN = 32
LABELS = ["yes", "no", "vielleicht, später"]


def write(path: Path, tensors: dict[str, Tensor] | None = None, **metadata: str) -> Path:
    """Write a head of three classes for 32 features, or `tensors`."""
    generator = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(3, HIDDEN, generator=generator), torch.randn(3, generator=generator)
    save_file(tensors or {"weight": weight, "bias": bias}, path, metadata=metadata or None)
    return path


def labelled(path: Path, tensors: dict[str, Tensor] | None = None) -> Path:
    return write(path, tensors, labels=json.dumps(LABELS))


def build(folder: Path, kind: Kind, architecture: str, head: Path) -> Exportable:
    checkpoint = resolve(str(kind.write(folder, architecture)))
    return families.build(checkpoint, Options(head=head))


@pytest.mark.parametrize("family", kinds())
def test_any_family_classifies(tmp_path: Path, family: str) -> None:
    kind = kinds()[family]
    plain = next(name for name in kind.architectures if name.endswith(("Model", "Encoder")))
    folder = kind.write(tmp_path / "checkpoint", plain)
    before = families.build(resolve(str(folder)))
    size = next(output.shape[1] for output in before.outputs if output.name == "pooled")
    assert isinstance(size, int)
    weight, bias = torch.randn(3, size), torch.randn(3)
    head = labelled(tmp_path / "head.safetensors", {"weight": weight, "bias": bias})
    exportable = families.build(resolve(str(folder)), Options(head=head))
    assert exportable.tasks == (*before.tasks, "classify")
    assert exportable.classification is not None
    assert exportable.classification.labels == tuple(LABELS)
    clips = [noise(20_000), noise(exportable.min_samples, seed=1), noise(7000, seed=2)]
    assert_exact(exportable, clips, widened=True)
    (row,) = run(exportable, clips[:1])
    expected = weight.numpy() @ before.reference(clips[0])["pooled"] + bias.numpy()
    assert error(row["logits"], expected) <= 2 * TOLERANCE
    double = exportable.reference(clips[0], torch.float64)["logits"]
    assert double.dtype == np.float64
    assert 0 < error(expected, double) < TOLERANCE


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_read(tmp_path: Path, dtype: torch.dtype) -> None:
    weight, bias = torch.randn(3, 4).to(dtype), torch.randn(3).to(dtype)
    path = labelled(tmp_path / "head.safetensors", {"weight": weight, "bias": bias})
    head = read_head(path)
    assert torch.equal(head.weight, weight.float())
    assert torch.equal(head.bias, bias.float())
    assert head.classification.labels == tuple(LABELS)
    assert head.classification.problem_type == "single_label_classification"
    assert head.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_not_said_is_as_in_transformers(tmp_path: Path) -> None:
    several = read_head(write(tmp_path / "several")).classification
    assert (several.labels, several.problem_type) == (("LABEL_0", "LABEL_1", "LABEL_2"), "single_label_classification")
    one = read_head(write(tmp_path / "one", {"weight": torch.ones(1, 4), "bias": torch.ones(1)})).classification
    assert (one.labels, one.problem_type) == (("LABEL_0",), "regression")
    multiple = read_head(write(tmp_path / "multiple", problem_type="multi_label_classification")).classification
    assert multiple.problem_type == "multi_label_classification"


ONES = {"weight": torch.ones(3, HIDDEN), "bias": torch.ones(3)}
MALFORMED: dict[str, tuple[Callable[[Path], Any], type[ExportError], str]] = {
    "nothing": (lambda path: None, CheckpointError, "cannot be read"),
    "a folder": (Path.mkdir, CheckpointError, "cannot be read"),
    "garbage": (lambda path: path.write_bytes(b"garbage"), CheckpointError, "cannot be read.*safetensors"),
    "no bias": (lambda path: write(path, {"weight": ONES["weight"]}), CheckpointError, "weight, not weight and bias"),
    "more": (lambda path: write(path, ONES | {"scale": torch.ones(1)}), CheckpointError, "bias, scale, weight, not"),
    "one axis": (
        lambda path: write(path, {"weight": torch.ones(3), "bias": torch.ones(3)}),
        CheckpointError,
        r"\[3\] and \[3\], not",
    ),
    "another bias": (
        lambda path: write(path, {"weight": ONES["weight"], "bias": torch.ones(2)}),
        CheckpointError,
        r"\[3, 32\] and \[2\]",
    ),
    "no class": (
        lambda path: write(path, {"weight": torch.ones(0, HIDDEN), "bias": torch.ones(0)}),
        CheckpointError,
        r"\[0, 32\]",
    ),
    "integers": (
        lambda path: write(path, {name: tensor.to(torch.int64) for name, tensor in ONES.items()}),
        CheckpointError,
        "float32, bfloat16 or float16",
    ),
    "NaN": (
        lambda path: write(path, {"weight": ONES["weight"] * torch.nan, "bias": torch.ones(3)}),
        CheckpointError,
        "NaN or infinity",
    ),
    "another width": (
        lambda path: write(path, {"weight": torch.ones(3, 31), "bias": torch.ones(3)}),
        CheckpointError,
        "of 31 features; the checkpoint's have 32",
    ),
    "labels in words": (lambda path: write(path, labels="yes, no"), CheckpointError, "not JSON"),
    "labels by id": (lambda path: write(path, labels='{"0": "yes"}'), CheckpointError, "not a list of strings"),
    "labels of numbers": (lambda path: write(path, labels="[0, 1, 2]"), CheckpointError, "not a list of strings"),
    "two labels": (lambda path: write(path, labels='["yes", "no"]'), CheckpointError, "2 labels for 3 classes"),
    "a label twice": (lambda path: write(path, labels='["a", "b", "a"]'), CheckpointError, "name a twice"),
    "a guess": (lambda path: write(path, problem_type="guess"), CheckpointError, "problem_type 'guess'"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_head_is_named(checkpoints: Path, tmp_path: Path, case: str) -> None:
    damage, kind, message = MALFORMED[case]
    head = tmp_path / "head.safetensors"
    damage(head)
    with pytest.raises(kind, match=message) as caught:
        families.build(resolve(str(checkpoints / "tiny-base")), Options(head=head))
    assert str(head) in str(caught.value)


def test_a_malformed_head_is_named_before_the_model_is_loaded(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Checkpoint, "model", lambda *arguments: pytest.fail("the model was loaded"))
    with pytest.raises(CheckpointError, match="cannot be read"):
        families.build(resolve(str(checkpoints / "tiny-base")), Options(head=tmp_path / "head.safetensors"))


@pytest.mark.parametrize("name", ["tiny-ctc", "tiny-classifier"])
def test_a_checkpoint_with_logits_of_its_own_takes_none(checkpoints: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsupportedError, match=r"--head .*has a head already"):
        families.build(resolve(str(checkpoints / name)), Options(head=labelled(tmp_path / "head.safetensors")))


def test_an_engine_with_a_head_classifies(tmp_path: Path) -> None:
    kind, head = kinds()["usm"], labelled(tmp_path / "head.safetensors")
    folder = kind.write(tmp_path / "checkpoint", "Gemma3nAudioEncoder", conf_num_hidden_layers=1)
    outputs = ("embeddings", "logits")  # the pooled embeddings need not be kept
    engine = export(str(folder), tmp_path / "engine", head=head, outputs=outputs)
    manifest = engine.manifest
    assert manifest.tasks == ("encode", "classify")
    assert manifest.classification is not None
    assert manifest.classification.labels == tuple(LABELS)
    assert manifest.head == hashlib.sha256(head.read_bytes()).hexdigest()
    assert [output.name for output in manifest.outputs] == list(outputs)
    assert "logits" in manifest.golden.outputs
    exportable = families.build(resolve(str(folder)), Options(head=head))
    assert_engine_exact(engine, exportable.reference, [noise(20_000), noise(513), noise(30_001)])


def test_an_engine_with_a_head_and_a_decoder_classifies_and_writes(tmp_path: Path) -> None:
    """The head's logits and those of the text are proved apart."""
    kind, head = kinds()["speech_encoder_decoder"], labelled(tmp_path / "head.safetensors")
    folder = kind.write(tmp_path / "checkpoint", kind.architectures[0])
    engine = export(str(folder), tmp_path / "engine", head=head)
    assert engine.manifest.tasks == ("encode", "transcribe", "classify")
    assert all(proved(checks) for checks in engine.checks.values())
    proven = {name: {check.output for check in checks} for name, checks in engine.checks.items()}
    assert "logits" in proven["fp32"]
    assert proven["fp32.step"] == {"logits"}
    exportable = families.build(resolve(str(folder)), Options(head=head))
    assert_engine_exact(engine, exportable.reference, [noise(20_000), noise(exportable.min_samples, seed=1)])
