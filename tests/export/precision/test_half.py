from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engines.batch import run_batch
from engines.manifest import Precision
from engines.verify import POLICY, error
from export import checkpoint as checkpoints
from export import families, golden
from export.attention import Attend
from export.exportable import Exportable
from export.parity import LIMITS
from export.precision.half import HALVES, in_half, parts, units
from export.precision.session import encoder_session
from tests.export.precision.judging import assert_judged
from tests.support import make_checkpoint, noise
from tests.zoo import Specimen, kinds

DEMO = Path(__file__).parents[3] / "demo" / "checkpoints"
PRECISIONS: tuple[Precision, ...] = ("fp16", "bf16")
NARROW: Precision = "fp16"
EDGES = {name: kind.edges for name, kind in kinds().items()}


def build(folder: Path, specimen: Specimen, family: str) -> Exportable:
    checkpoint = kinds()[family].write(folder / "checkpoint", specimen.architecture, **specimen.config)
    return families.build(checkpoints.resolve(str(checkpoint)), specimen.options)


@pytest.mark.parametrize("family", sorted(EDGES))
def test_every_family_is_near_to_transformers_in_half(tmp_path: Path, family: str) -> None:
    exportable = build(tmp_path, EDGES[family], family)
    clips = [noise(length, seed=length)[: exportable.max_samples] for length in (exportable.min_samples + 17, 9000)]
    for precision in PRECISIONS:
        assert_judged(exportable, clips, precision)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "name"), [(kind.name, name) for kind in kinds().values() for name in sorted(kind.exports)]
)
def test_every_specimen_is_near_to_transformers_in_half(tmp_path: Path, family: str, name: str) -> None:
    exportable = build(tmp_path, kinds()[family].exports[name], family)
    lengths = (exportable.min_samples + 17, 9000, 16000)
    clips = [noise(length, seed=length)[: exportable.max_samples] for length in lengths]
    for precision in PRECISIONS:
        assert_judged(exportable, clips, precision)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.name for path in DEMO.iterdir()))
def test_every_demo_checkpoint_is_near_to_transformers_in_half(name: str) -> None:
    exportable = families.build(checkpoints.resolve(str(DEMO / name)))
    clips = golden.make_clips(exportable, golden.kept_outputs(exportable, ()))
    for precision in PRECISIONS:
        assert_judged(exportable, clips, precision)


@pytest.mark.parametrize("channels", [24, 40], ids=["behind the convolution", "in the convolution"])
def test_faint_sound_beside_an_offset_survives(tmp_path: Path, channels: int) -> None:
    """Where nothing takes the mean away but the first group norm."""
    config: dict[str, Any] = {"conv_dim": (channels, 24, 24, 24), "do_normalize": False, "num_hidden_layers": 1}
    folder = make_checkpoint(tmp_path / "checkpoint", **config)
    exportable = families.build(checkpoints.resolve(str(folder)))
    assert_judged(exportable, [np.float32(0.5) + 0.01 * noise(9000)], NARROW)


def test_the_types_are_where_they_belong(tmp_path: Path) -> None:
    exportable = families.build(checkpoints.resolve(str(make_checkpoint(tmp_path / "checkpoint", "HubertForCTC"))))
    before = {name: tensor.data_ptr() for name, tensor in exportable.module.state_dict().items()}
    typed = in_half(exportable, torch.float16, ["encoder.encoder.encoder.layers.1.feed_forward"])
    single = {name for name, tensor in typed.module.state_dict().items() if tensor.dtype == torch.float32}
    layer = "encoder.encoder.layers.0"
    assert {f"{layer}.layer_norm.weight", "encoder.feature_extractor.conv_layers.0.conv.weight"} <= single
    assert "encoder.encoder.layers.1.feed_forward.output_dense.0.weight" in single
    assert not single & {f"{layer}.attention.q_proj.weight", f"{layer}.feed_forward.output_dense.0.weight"}
    assert not single & {"encoder.feature_extractor.conv_layers.1.conv.weight", "head.lm_head.weight"}
    arrays = typed.module(torch.zeros(1, 9000), torch.tensor([9000]))
    assert {array.dtype for array in arrays} == {torch.float32, torch.int64}
    # What stays as it is, is shared; the exportable itself is as it was.
    after = {name: tensor.data_ptr() for name, tensor in exportable.module.state_dict().items()}
    assert after == before
    assert typed.module.state_dict()[f"{layer}.layer_norm.weight"].data_ptr() == before[f"{layer}.layer_norm.weight"]
    assert not any(module.standard for module in exportable.module.modules() if isinstance(module, Attend))


def test_a_feed_forward_is_one_again(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint", num_hidden_layers=1, intermediate_size=1100)
    exportable = families.build(checkpoints.resolve(str(folder)))
    widths = [
        [module.out_features for name, module in each.module.named_modules() if "intermediate_dense." in name]
        for each in (exportable, in_half(exportable, torch.float32))
    ]
    assert widths == [[550, 550], [1100]]
    clip = noise(5000)
    exact, merged = (
        run_batch(encoder_session(each), [clip], each.outputs)[0]["embeddings"]
        for each in (exportable, in_half(exportable, torch.float32))
    )
    assert error(merged, exact) < 1e-5


def test_units_are_what_may_have_a_type_of_its_own(tmp_path: Path) -> None:
    exportable = families.build(checkpoints.resolve(str(make_checkpoint(tmp_path / "checkpoint"))))
    found = dict(units(parts(exportable)))
    layer = "encoder.encoder.encoder.layers.0"
    assert {f"{layer}.feed_forward", f"{layer}.attention.attend", f"{layer}.attention.q_proj"} <= set(found)
    assert not any(name.startswith(f"{layer}.feed_forward.") for name in found)
    held = {id(parameter) for module in found.values() for parameter in module.parameters()}
    assert held == {id(parameter) for parameter in exportable.module.parameters()}


def test_the_limits_leave_room_for_what_is_served() -> None:
    assert all(LIMITS[precision].error <= POLICY[precision] for precision in LIMITS)
    assert set(HALVES) < set(LIMITS)
