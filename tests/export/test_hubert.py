"""HuBERT's torch module against transformers, over random configurations and lengths."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers.activations import ACT2FN

from engines.batch import Row
from engines.verify import error
from export import checkpoint as checkpoints
from export import families
from export.exportable import Exportable
from export.exporter import export
from export.parity import TOLERANCE, worst_excess
from tests.support import SMALL, make_checkpoint, noise, perturb

ROUNDINGS = 2.5e-7  # two of fp32 at one, 2**-23 each
ARCHITECTURES = ("HubertModel", "HubertForCTC", "HubertForSequenceClassification")


def build(folder: Path, architecture: str, **config: Any) -> Exportable:
    return families.build(checkpoints.resolve(str(make_checkpoint(folder, architecture, **config))))


def run(exportable: Exportable, clips: list[NDArray[np.float32]]) -> list[Row]:
    """Run the torch module on one batch with NaN in the padding and cut the rows."""
    lengths = torch.tensor([len(clip) for clip in clips])
    waveform = torch.full((len(clips), int(lengths.max())), float("nan"))
    for row, clip in zip(waveform, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    with torch.inference_mode():
        *arrays, frames = exportable.module(waveform, lengths)
    return [
        {
            spec.name: array[index, : int(frames[index])].numpy() if spec.lengths else array[index].numpy()
            for spec, array in zip(exportable.outputs, arrays, strict=True)
        }
        for index in range(len(clips))
    ]


def assert_exact(exportable: Exportable, clips: list[NDArray[np.float32]], *, widened: bool = False) -> None:
    """Each clip alone equals transformers, and each clip in the batch equals the clip alone.

    The second within 1e-5 flat, unless `widened` by what separates a reference of random shape from its own in fp64;
    then a few roundings of values of order one pass too: the only logit of a regression may cancel to almost zero.
    """
    batch = run(exportable, clips)
    for clip, together in zip(clips, batch, strict=True):
        (alone,) = run(exportable, [clip])
        name, found, bound = worst_excess(alone, exportable.reference, clip)
        assert found <= bound, f"{name}, {len(clip)} samples"
        if widened:
            differing = {k: v for k, v in together.items() if not np.allclose(v, alone[k], rtol=0, atol=ROUNDINGS)}
            if not differing:
                continue
            name, found, bound = worst_excess(differing, exportable.reference, clip, truth=alone)
        else:
            found, name = max((error(array, alone[name]), name) for name, array in together.items())
            bound = TOLERANCE
        assert found <= bound, f"{name}, {len(clip)} samples, in a batch"


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """Any shape that transformers accepts, small."""
    depth = draw(st.integers(1, 4))
    heads = draw(st.sampled_from([1, 2, 4]))
    groups = draw(st.sampled_from([1, 2, 4]))
    stable = draw(st.booleans())
    activation = st.sampled_from(sorted(ACT2FN))
    return {
        # A layer norm over fewer channels magnifies whatever rounding there was, that of the reference too.
        "conv_dim": [draw(st.sampled_from([8, 12, 16])) for _ in range(depth)],
        "conv_kernel": [draw(st.integers(1, 11)) for _ in range(depth)],
        "conv_stride": [draw(st.integers(1, 6)) for _ in range(depth)],
        "conv_bias": draw(st.booleans()),
        "feat_extract_norm": draw(st.sampled_from(["group", "layer"])),
        "feat_extract_activation": draw(activation),
        "feat_proj_layer_norm": draw(st.booleans()),
        "hidden_size": heads * draw(st.sampled_from([8, 12, 20])),
        "num_attention_heads": heads,
        "num_hidden_layers": draw(st.integers(1, 3)),
        "intermediate_size": draw(st.sampled_from([8, 24, 1025])),  # the last one in pieces
        "hidden_act": draw(activation),
        "layer_norm_eps": draw(st.sampled_from([1e-5, 1e-6])),
        "num_conv_pos_embeddings": draw(st.integers(1, 17)),
        "num_conv_pos_embedding_groups": groups,
        "conv_pos_batch_norm": draw(st.booleans()),
        "do_stable_layer_norm": stable,
        "adapter_attn_dim": draw(st.sampled_from([None, 6])) if stable else None,
        "use_weighted_layer_sum": draw(st.booleans()),
        "do_normalize": draw(st.booleans()),
        "mask_time_prob": draw(st.sampled_from([0.0, 0.05])),
        "num_labels": draw(st.integers(1, 4)),
        "seed": draw(st.integers(0, 1000)),
    }


def longest(config: dict[str, Any], shortest: int) -> int:
    """Return a length of some hundred frames at most, as attention grows with their square."""
    strides: list[int] = config["conv_stride"]
    return shortest + min(9000, 300 * math.prod(strides))


def check_random(folder: Path, data: st.DataObject) -> None:
    architecture = data.draw(st.sampled_from(ARCHITECTURES))
    config = data.draw(configurations())
    exportable = build(folder, architecture, **config)
    shortest = exportable.min_samples
    lengths = data.draw(st.lists(st.integers(shortest, longest(config, shortest)), min_size=1, max_size=3))
    clips = [noise(length, seed=index) for index, length in enumerate([shortest, *lengths])]
    assert_exact(exportable, clips, widened=True)


relaxed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@settings(relaxed, max_examples=25)
@given(data=st.data())
def test_random_configurations(tmp_path: Path, data: st.DataObject) -> None:
    check_random(tmp_path, data)


@pytest.mark.slow
@settings(relaxed, max_examples=600)
@given(data=st.data())
def test_many_random_configurations(tmp_path: Path, data: st.DataObject) -> None:
    check_random(tmp_path, data)


@pytest.mark.parametrize("activation", sorted(ACT2FN))
def test_every_activation(tmp_path: Path, activation: str) -> None:
    exportable = build(tmp_path, "HubertForCTC", hidden_act=activation, feat_extract_activation=activation)
    assert_exact(exportable, [noise(5000), noise(1234, seed=1)])


# The convolution stack of the published checkpoints, narrow, and the lengths around the edges of its frames.
TRUE_STRIDES: dict[str, Any] = {
    "conv_dim": [16] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
}
EDGES = [400 + 320 * frame + offset for frame in (0, 1, 2, 3, 24) for offset in range(-6, 7) if frame or offset >= 0]


@pytest.fixture(scope="module", params=["group", "layer"])
def true_strides(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exportable:
    config = TRUE_STRIDES | {"feat_extract_norm": request.param, "do_stable_layer_norm": request.param == "layer"}
    return build(tmp_path_factory.mktemp("true-strides"), "HubertForCTC", **config)


def test_every_length_around_the_stride_boundaries(true_strides: Exportable) -> None:
    assert true_strides.min_samples == 400  # 0.025 s
    assert_exact(true_strides, [noise(length, seed=length) for length in EDGES])


@pytest.mark.slow
def test_an_engine_at_the_stride_boundaries_and_at_a_minute(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", "HubertForCTC", **TRUE_STRIDES)
    engine = export(str(checkpoint), tmp_path / "engine", max_seconds=60)
    reference = families.build(checkpoints.resolve(str(checkpoint))).reference
    outputs = [output.name for output in engine.manifest.outputs]
    for lengths in (EDGES, [60 * 16000, 16000]):
        clips = [noise(length, seed=length) for length in lengths]
        for clip, together in zip(clips, engine.run(clips, outputs), strict=True):
            (alone,) = engine.run([clip], outputs)
            name, found, bound = worst_excess(alone, reference, clip)
            assert found <= bound, f"{name}, {len(clip)} samples"
            assert max(error(together[name], alone[name]) for name in outputs) <= TOLERANCE, len(clip)


@pytest.mark.parametrize("seconds", [1, 10, 60])
def test_long_clips(true_strides: Exportable, seconds: int) -> None:
    clip = noise(seconds * 16000 + 3, seed=seconds)
    (alone,) = run(true_strides, [clip])
    name, found, bound = worst_excess(alone, true_strides.reference, clip)
    assert found <= bound, name


@pytest.mark.parametrize(
    "clip",
    [
        np.zeros(8000, np.float32),
        np.full(8000, 0.5, np.float32),
        np.full(8000, 0.5, np.float32) + noise(8000, scale=1e-4),
        np.clip(20 * noise(8000), -1, 1),
        np.sin(np.arange(8000) * 0.35).astype(np.float32),
        noise(8000, scale=1e-6),
    ],
    ids=["silence", "DC", "DC with faint noise", "clipping", "tone", "faint"],
)
def test_hard_signals(true_strides: Exportable, clip: NDArray[np.float32]) -> None:
    assert_exact(true_strides, [clip, noise(12345)])


def test_a_clip_without_a_frame_does_not_disturb_its_neighbours(true_strides: Exportable) -> None:
    clip = noise(5000)
    together, empty, zero = run(true_strides, [clip, noise(100), noise(0)])
    (alone,) = run(true_strides, [clip])
    for name, array in alone.items():
        assert error(together[name], array) <= TOLERANCE
    assert empty["embeddings"].shape == zero["embeddings"].shape == (0, SMALL["hidden_size"])
    assert np.isfinite(empty["pooled"]).all()


def test_perturbing_moves_every_parameter() -> None:
    module = torch.nn.BatchNorm1d(3)
    before = {name: value.clone() for name, value in module.state_dict().items() if value.is_floating_point()}
    perturb(module, seed=0)
    assert all((module.state_dict()[name] != value).any() for name, value in before.items())
