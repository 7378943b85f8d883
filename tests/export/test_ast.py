"""What is AST's own, beyond the checks that every family passes."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from transformers import Wav2Vec2FeatureExtractor

from engines.engine import Engine
from engines.verify import error, proved
from export import checkpoint as checkpoints
from export import families, golden
from export.errors import CheckpointError, ExportError, UnsupportedError
from export.exportable import Exportable, Options
from export.parity import TOLERANCE, variant_difference
from tests.conftest import Exported
from tests.export.exactness import assert_exact, run
from tests.support import noise
from tests.zoo import ast

CLASSIFIER = "ASTForAudioClassification"
CROPPED = Options(variant="cropped")
LONGEST = 127 * 160 + 559


def build(folder: Path, options: Options | None = None, architecture: str = CLASSIFIER, **config: Any) -> Exportable:
    return families.build(checkpoints.resolve(str(ast.write(folder, architecture, **config))), options)


def change(folder: Path, file: str, **values: Any) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_the_longest_clip_is_the_longest_of_which_nothing_is_cut_off(tmp_path: Path) -> None:
    exportable = build(tmp_path, max_length=126)  # patches up to the last frame
    longest = 125 * 160 + 559
    assert (exportable.min_samples, exportable.max_samples) == (400, longest)
    clip = noise(longest + 160)
    cut, whole = (exportable.reference(clip[:size])["embeddings"] for size in (longest, longest + 160))
    np.testing.assert_array_equal(cut, whole)
    assert error(exportable.reference(clip[: longest - 160])["embeddings"], cut) > 1e-3


def test_what_comes_out(tmp_path: Path) -> None:
    exportable = build(tmp_path, Options(attentions=True))
    (row,) = run(exportable, [noise(5000)])
    assert {name: array.shape for name, array in row.items()} == {
        "embeddings": (38, 32),
        "pooled": (32,),
        "logits": (2,),
        **{f"hidden_states.{index}": (38, 32) for index in range(3)},
        **{f"attentions.{index}": (4, 38, 38) for index in range(2)},
    }
    assert exportable.layers["attentions.0"] == exportable.layers["hidden_states.1"] == 1
    assert exportable.lengths == ()


@pytest.mark.filterwarnings("ignore:At least one mel filter")  # of the published 128
def test_the_published_spectrogram(tmp_path: Path) -> None:
    exportable = build(tmp_path, architecture="ASTModel", num_mel_bins=128, max_length=1024, num_hidden_layers=1)
    assert exportable.outputs[0].shape == ("batch", 1214, 32)
    assert_exact(exportable, [noise(164_239), noise(3000, seed=1)])


@pytest.mark.parametrize("attentions", [False, True])
def test_cropped_at_the_edges(tmp_path: Path, attentions: bool) -> None:
    exportable = build(tmp_path, Options(attentions, "cropped"))
    assert_exact(exportable, [noise(length, seed=length) for length in ast.edges()])


@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_random_cropped_configurations(tmp_path: Path, data: st.DataObject) -> None:
    config = data.draw(ast.configurations())
    exportable = build(tmp_path, Options(data.draw(st.booleans()), "cropped"), **config)
    lengths = data.draw(st.lists(st.integers(400, ast.longest(config, 400)), min_size=1, max_size=3))
    assert_exact(exportable, [noise(length, seed=length) for length in (400, *lengths)], widened=True)


def test_cropped_has_the_tokens_that_a_clip_needs(tmp_path: Path) -> None:
    exportable = build(tmp_path, CROPPED)
    sizes = {400: 5, 400 + 15 * 160: 5, 400 + 16 * 160: 8, LONGEST - 6 * 160: 38, LONGEST: 38}
    rows = run(exportable, [noise(length) for length in sizes])
    assert [row["embeddings"].shape for row in rows] == [(tokens, 32) for tokens in sizes.values()]


def test_cropped_is_another_model_except_for_the_longest_clips(tmp_path: Path) -> None:
    exportable = build(tmp_path, CROPPED)
    difference = variant_difference(exportable, [noise(3000), noise(9000)])
    assert set(difference) == {"pooled", "logits"}
    assert min(difference.values()) > 1e-3
    assert max(variant_difference(exportable, [noise(LONGEST)]).values()) <= TOLERANCE
    assert variant_difference(build(tmp_path), [noise(3000)]) == {}


def test_golden_clips_of_many_tokens_keep_some(tmp_path: Path) -> None:
    exportable = build(tmp_path, hidden_size=1024, num_hidden_layers=1, max_length=1024)
    kept = golden.kept_outputs(exportable, ())
    clips = golden.make_clips(exportable, kept)
    description = golden.describe(exportable, len(clips), kept)
    assert len(clips) == 2
    assert description.rows
    assert description.rows < 305  # tokens
    assert description.rows * 1024 * 4 * len(clips) * 2 <= golden.BYTES
    whole = exportable.reference(clips[0])
    kept_rows = golden.reference_of(exportable, description)(clips[0])
    np.testing.assert_array_equal(kept_rows["embeddings"], whole["embeddings"][: description.rows])
    np.testing.assert_array_equal(kept_rows["pooled"], whole["pooled"])


def test_an_engine_of_the_variant_says_how_far_it_is_from_transformers(exports: Exported) -> None:
    manifest = exports.engine("ast, cropped").manifest
    assert manifest.variant == "cropped"
    assert set(manifest.variant_difference) == {"pooled", "logits"}
    assert min(manifest.variant_difference.values()) > 1e-3
    assert manifest.output("embeddings").shape == ("batch", "tokens", 32)
    assert manifest.output("embeddings").samples_per_frame is None


def test_an_engine_is_proved_by_the_tokens_that_its_golden_clips_keep(exports: Exported, tmp_path: Path) -> None:
    folder = tmp_path / "engine"
    shutil.copytree(exports.engine("ast, cropped").folder, folder)
    tensors = load_file(folder / "golden.safetensors")
    cut = {key: array[:3] if "embed" in key or "states" in key else array for key, array in tensors.items()}
    save_file(cut, folder / "golden.safetensors")
    sha256 = hashlib.sha256((folder / "golden.safetensors").read_bytes()).hexdigest()
    described = json.loads((folder / "engine.json").read_text())["golden"]
    for rows, proven in ((3, True), (4, False)):
        change(folder, "engine.json", golden=described | {"rows": rows, "sha256": sha256})
        engine = Engine(folder)
        assert proved(engine.open_graph(engine.full_graph)[1]) == proven


NUMBERS = ("patch_size", "frequency_stride", "time_stride", "hidden_size", "num_attention_heads", "intermediate_size")


@pytest.mark.parametrize("name", [*NUMBERS, "num_hidden_layers", "max_length", "num_mel_bins"])
@pytest.mark.parametrize("value", [0, -1, None, "16", [16, 16], 1.5])
def test_a_size_that_is_none(tmp_path: Path, name: str, value: object) -> None:
    checkpoint = ast.write(tmp_path, CLASSIFIER)
    change(tmp_path, "config.json", **{name: value})
    with pytest.raises(ExportError, match=r"config\.json"):
        families.build(checkpoints.resolve(str(checkpoint)))


@pytest.mark.parametrize("name", ["sampling_rate", "num_mel_bins", "max_length", "mean", "std", "do_normalize"])
@pytest.mark.parametrize("value", [0, -1, None, "x", [1], float("nan")])
def test_a_setting_of_the_preprocessor_that_is_none(tmp_path: Path, name: str, value: object) -> None:
    if name == "mean" and value in (0, -1):
        return
    checkpoint = ast.write(tmp_path, CLASSIFIER)
    change(tmp_path, "preprocessor_config.json", **{name: value})
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json"):
        families.build(checkpoints.resolve(str(checkpoint)))


@pytest.mark.parametrize("values", [{"max_length": 160}, {"num_mel_bins": 64}])
def test_a_spectrogram_that_the_model_has_no_positions_for(tmp_path: Path, values: dict[str, int]) -> None:
    checkpoint = ast.write(tmp_path, CLASSIFIER)
    change(tmp_path, "preprocessor_config.json", **values)
    with pytest.raises(CheckpointError, match="must agree"):
        families.build(checkpoints.resolve(str(checkpoint)))


def test_a_spectrogram_that_is_longer_within_the_last_patch_is_taken(tmp_path: Path) -> None:
    checkpoint = ast.write(tmp_path, CLASSIFIER)
    change(tmp_path, "preprocessor_config.json", max_length=135)
    exportable = families.build(checkpoints.resolve(str(checkpoint)))
    assert exportable.max_samples == LONGEST + 7 * 160
    assert_exact(exportable, [noise(exportable.max_samples), noise(3000)])


def test_a_patch_that_does_not_fit(tmp_path: Path) -> None:
    checkpoint = ast.write(tmp_path, CLASSIFIER)
    change(tmp_path, "config.json", max_length=15)
    with pytest.raises(CheckpointError, match="a patch of 16 does not fit"):
        families.build(checkpoints.resolve(str(checkpoint)))


def test_what_is_not_exported(tmp_path: Path) -> None:
    checkpoint = checkpoints.resolve(str(ast.write(tmp_path, CLASSIFIER)))
    with pytest.raises(UnsupportedError, match="has the variants: cropped"):
        families.build(checkpoint, Options(variant="faster"))
    change(tmp_path, "config.json", architectures=["ASTForCTC"])
    with pytest.raises(UnsupportedError, match="is a ASTForCTC"):
        families.build(checkpoints.resolve(str(tmp_path)))
    change(tmp_path, "config.json", architectures=[CLASSIFIER], hidden_act="sing")
    with pytest.raises(UnsupportedError, match="'sing'"):
        families.build(checkpoints.resolve(str(tmp_path)))
    change(tmp_path, "config.json", hidden_act="gelu")
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(UnsupportedError, match="only ASTFeatureExtractor"):
        families.build(checkpoints.resolve(str(tmp_path)))


def test_other_rates_where_torchaudio_computes_them_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = checkpoints.resolve(str(ast.write(tmp_path, CLASSIFIER, sampling_rate=8000)))
    extractor = checkpoint.feature_extractor()
    del extractor.mel_filters
    monkeypatch.setattr(checkpoints.Checkpoint, "feature_extractor", lambda self: extractor)
    with pytest.raises(UnsupportedError, match="uninstall torchaudio"):
        families.build(checkpoint)
