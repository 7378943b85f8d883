from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load
from transformers import ASTFeatureExtractor, ASTForAudioClassification

from engines.manifest import Manifest
from server.windows import Window, average, cut
from tests.conftest import Exported
from tests.server.process import Server, noise, serving, wav

SPECIMEN = "ast, no bias, attentions"
CLIP = noise(4.5)
SHORT = noise(1, seed=1)


@given(
    length=st.integers(1, 400),
    shortest=st.integers(1, 20),
    further=st.integers(0, 40),
)
def test_every_sample_is_in_a_window_that_the_engine_takes(length: int, shortest: int, further: int) -> None:
    clip = np.arange(max(length, shortest), dtype=np.float32)
    windows = cut(clip, shortest, shortest + further)
    assert all(shortest <= len(window) <= shortest + further for window in windows)
    assert np.array_equal(np.unique(np.concatenate(windows)), clip)
    assert all(len(window) == shortest + further for window in windows[:-1])
    assert len(windows) == -(-len(clip) // (shortest + further))
    assert sum(map(len, windows)) - len(clip) < shortest  # only the last may reach back


def test_a_clip_that_the_engine_takes_is_one_window() -> None:
    clip = np.zeros(100, np.float32)
    [window] = cut(clip, 10, 100)
    assert np.shares_memory(window, clip)
    assert len(window) == 100


def test_a_tail_that_is_too_short_reaches_back() -> None:
    clip = np.arange(105, dtype=np.float32)
    windows = cut(clip, 10, 50)
    assert [(window[0], len(window)) for window in windows] == [(0, 50), (50, 50), (95, 10)]


def test_the_weight_of_a_window_is_its_length() -> None:
    windows = [Window({}, 3), Window({}, 1)]
    values = average([np.array([1.0, 0.0], np.float32), np.array([0.0, 2.0], np.float32)], windows)
    np.testing.assert_array_equal(values, [0.75, 0.5])
    assert values.dtype == np.float64


class Original:
    """The windows of a clip through transformers, each alone."""

    def __init__(self, folder: Path) -> None:
        self._extractor = ASTFeatureExtractor.from_pretrained(folder)
        self._model = ASTForAudioClassification.from_pretrained(folder).eval()
        self.labels = [self._model.config.id2label[index] for index in range(self._model.config.num_labels)]

    def logits(self, clip: NDArray[np.float32]) -> NDArray[np.float64]:
        with torch.inference_mode():
            return self._model(self._features(clip)).logits[0].double().numpy()  # type: ignore[no-any-return]

    def pooled(self, clip: NDArray[np.float32]) -> NDArray[np.float64]:
        with torch.inference_mode():
            output = self._model.audio_spectrogram_transformer(self._features(clip))
        return output.pooler_output[0].double().numpy()  # type: ignore[no-any-return]

    def _features(self, clip: NDArray[np.float32]) -> torch.Tensor:
        features = self._extractor(clip, sampling_rate=16_000, return_tensors="pt")
        return features.input_values  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def longest(exports: Exported) -> int:
    return Manifest.read(exports.engine(SPECIMEN).folder).max_samples


@pytest.fixture(scope="module")
def original(exports: Exported) -> Original:
    return Original(exports.checkpoint(SPECIMEN))


@pytest.fixture(scope="module")
def short_sighted(exports: Exported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a model that takes 1.3 s at once, and clips up to 6 s."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(exports.engine(SPECIMEN).folder, folder / "classifier")
    with serving(folder, max_clip_seconds=6) as running:
        yield running


def post(server: Server, task: str, *clips: NDArray[np.float32], accept: str = "*/*", **options: Any) -> httpx.Response:
    parts = [("file", ("a.wav", wav(clip))) for clip in clips]
    return server.client.post(f"/v1/{task}", files=parts, data=options, headers={"Accept": accept})


def weighted(arrays: list[NDArray[np.float64]], longest: int) -> NDArray[np.float64]:
    """The mean over the windows of `CLIP`: three and what is left."""
    weights = [longest, longest, longest, len(CLIP) - 3 * longest]
    return np.asarray(sum(weight * array for weight, array in zip(weights, arrays, strict=True)) / len(CLIP))


def test_a_long_clip_is_classified_as_the_average_of_its_windows(
    short_sighted: Server, original: Original, longest: int
) -> None:
    logits = [original.logits(CLIP[start : start + longest]) for start in range(0, len(CLIP), longest)]
    softmax = [np.exp(one) / np.exp(one).sum() for one in logits]
    for options, expected in (({}, weighted(softmax, longest)), ({"function": "none"}, weighted(logits, longest))):
        long, short = post(short_sighted, "classify", CLIP, SHORT, **options).json()["data"]
        scores = {label["label"]: label["score"] for label in long["labels"]}
        assert [scores[label] for label in original.labels] == pytest.approx(list(expected), rel=1e-5, abs=1e-6)
        assert (long["windows"], long["duration"], short["windows"]) == (4, 4.5, 1)


def test_a_long_clip_is_encoded_to_the_average_of_its_windows(
    short_sighted: Server, original: Original, longest: int
) -> None:
    pooled = [original.pooled(CLIP[start : start + longest]) for start in range(0, len(CLIP), longest)]
    expected = weighted(pooled, longest)
    [item] = post(short_sighted, "encode", CLIP, pooling="model", normalize=True).json()["data"]
    np.testing.assert_allclose(item["embedding"], expected / np.linalg.norm(expected), rtol=1e-4, atol=1e-6)
    assert item["windows"] == 4


def test_other_media_say_it_in_a_header(short_sighted: Server, longest: int) -> None:
    accept = "application/vnd.safetensors"
    response = post(short_sighted, "encode", CLIP, SHORT, accept=accept, pooling="mean", layer=[1, 2])
    assert response.headers["X-Windows"] == "4,1"
    assert set(load(response.content)) == {"0.layer1", "0.layer2", "1.layer1", "1.layer2"}
    response = post(short_sighted, "encode", CLIP, accept="application/x-npy", pooling="max")
    assert response.headers["X-Windows"] == "4"
    assert np.load(io.BytesIO(response.content)).shape == (32,)


@pytest.mark.parametrize(
    ("task", "options"),
    [("classify", {"windows": "none"}), ("encode", {"pooling": "mean", "windows": "none"}), ("encode", {})],
)
def test_where_windows_are_refused_or_have_no_meaning(
    short_sighted: Server, task: str, options: dict[str, str]
) -> None:
    response = post(short_sighted, task, SHORT, CLIP, **options)
    assert short_sighted.error(response) == (413, "audio_too_long", "file[1]")
    assert "windows=auto" in response.json()["error"]["message"]


def test_longer_than_the_server_takes(short_sighted: Server) -> None:
    response = post(short_sighted, "classify", noise(6.1))
    assert short_sighted.error(response) == (413, "audio_too_long", "file[0]")
    assert "6 s, the longest that the server takes" in response.json()["error"]["message"]


def test_an_unknown_way_of_windowing(short_sighted: Server) -> None:
    assert short_sighted.error(post(short_sighted, "classify", SHORT, windows="some")) == (
        422,
        "option_invalid",
        "windows",
    )
