from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from export import checkpoint as checkpoints
from export import families
from export.errors import ExportError, ParityError
from export.exportable import Exportable
from export.precision import survey
from export.precision.half import in_half
from tests.export.precision.judging import assert_judged
from tests.support import make_checkpoint, noise
from tests.zoo import kinds

STABLE: dict[str, Any] = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "num_hidden_layers": 2}
CLIPS = [noise(5000, seed=1), noise(9000, seed=2)]


def loud(folder: Path, name: str, factor: float) -> Exportable:
    """Return an encoder with one weight so many times as large."""
    exportable = families.build(checkpoints.resolve(str(make_checkpoint(folder / "checkpoint", **STABLE))))
    for module in (exportable.module, exportable.reference._models[torch.float32]):  # type: ignore[attr-defined]
        for key, parameter in module.named_parameters():
            if key.endswith(name.replace("dense.0.", "dense.") if module is not exportable.module else name):
                parameter.data *= factor
    return exportable


def test_a_layer_that_overflows_is_kept_in_fp32_and_exact(tmp_path: Path) -> None:
    exportable = loud(tmp_path, "layers.0.feed_forward.output_dense.0.weight", 1e6)
    kept = survey.overflowing(exportable, CLIPS)
    assert list(kept) == ["encoder.encoder.encoder.layers.0.feed_forward"]
    assert max(kept.values()) > torch.finfo(torch.float16).max
    assert_judged(exportable, CLIPS, "fp16", kept)
    with pytest.raises(ExportError, match=r"layers\.0\.feed_forward overflows, .* leave fp16 out of --precision"):
        survey.check(in_half(exportable, torch.float16), CLIPS, "fp16")
    with pytest.raises(ParityError, match=r"fp16: .* differs from transformers by inf"):
        assert_judged(exportable, CLIPS, "fp16")


def test_scores_of_attention_that_overflow_are_kept_in_fp32(tmp_path: Path) -> None:
    exportable = loud(tmp_path, "layers.1.attention.k_proj.weight", 3e4)
    kept = survey.overflowing(exportable, CLIPS)
    layer = "encoder.encoder.encoder.layers.1.attention"
    assert f"{layer}.attend" in kept
    assert set(kept) <= {f"{layer}.attend", f"{layer}.k_proj"}
    survey.check(in_half(exportable, torch.float16, kept), CLIPS, "fp16")


@pytest.mark.parametrize("family", ["ast", "usm", "speech_encoder_decoder"])
def test_an_ordinary_model_has_no_such_layer(tmp_path: Path, family: str) -> None:
    kind = kinds()[family]
    checkpoint = kind.write(tmp_path / "checkpoint", kind.edges.architecture, **kind.edges.config)
    exportable = families.build(checkpoints.resolve(str(checkpoint)))
    assert survey.overflowing(exportable, CLIPS) == {}
    survey.check(in_half(exportable, torch.float16), CLIPS, "fp16")


def test_a_decoder_is_watched_too(tmp_path: Path) -> None:
    kind = kinds()["speech_encoder_decoder"]
    checkpoint = kind.write(tmp_path / "checkpoint", kind.edges.architecture, **kind.edges.config)
    exportable = families.build(checkpoints.resolve(str(checkpoint)))
    assert exportable.decoder
    exportable.decoder.step.get_parameter("layers.0.inner.weight").data *= 1e6
    kept = survey.overflowing(exportable, CLIPS)
    assert {"decoder.layers.0.inner", "decoder.layers.0.outer"} <= set(kept)


def test_the_margin_is_kept() -> None:
    assert torch.finfo(torch.float16).max == survey.HELD * survey.MARGIN
