from __future__ import annotations

import io
import math
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors.numpy import load
from transformers import ASTFeatureExtractor, ASTForAudioClassification

from engines.manifest import Manifest
from server.errors import AudioTooLongError, OptionError
from server.schemas.options import WindowOptions
from server.windows import Geometry, Span, Window, average, cut_on_silence, spans
from tests.conftest import Exported
from tests.server.process import Server, noise, serving, wav
from tests.server.tasks.manifests import manifest

SPECIMEN = "ast, no bias, attentions"
CLIP = noise(4.5)
SHORT = noise(1, seed=1)
RATE = 16_000


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    """Any geometry of frames that Geometry.of can return, and some more."""
    unit = draw(st.integers(2, 40))
    shortest = draw(st.integers(1, 60))
    context = draw(st.integers(0, 5)) * unit
    least = context + max(context, math.ceil(shortest / unit) * unit) + unit
    window = draw(st.integers(max(least, shortest + unit), 500))
    return Geometry(window, context, unit, shortest, draw(st.integers(0, 700)))


def frames(start: int, samples: int, geometry: Geometry) -> NDArray[np.float32]:
    """Return the frames of an engine about samples from `start` on: each is the number that it has in the clip."""
    count = (samples - geometry.shortest) // geometry.unit + 1
    return np.arange(count, dtype=np.float32) + start / geometry.unit


@given(geometry=geometries(), samples=st.integers(1, 3000))
def test_every_frame_of_a_clip_is_kept_by_one_window(geometry: Geometry, samples: int) -> None:
    samples = max(samples, geometry.shortest)
    found = spans(samples, geometry)
    rows = [Window({"a": frames(span.start, span.end - span.start, geometry)}, span) for span in found]
    kept = np.concatenate([window.kept("a", geometry.unit) for window in rows])
    np.testing.assert_array_equal(kept, frames(0, samples, geometry))
    assert all(len(window.kept("a", geometry.unit)) for window in rows)


@given(geometry=geometries(), samples=st.integers(1, 3000))
def test_what_windows_see_and_keep(geometry: Geometry, samples: int) -> None:
    samples = max(samples, geometry.shortest)
    found = spans(samples, geometry)
    assert (len(found) == 1) == (samples <= max(geometry.longest, geometry.window))
    assert (found[0].keep_start, found[-1].keep_end) == (0, samples)
    for one, following in pairwise(found):
        assert one.keep_end == following.keep_start < following.keep_end
        assert one.end - one.keep_end >= max(geometry.context, geometry.shortest)
        assert following.keep_start - following.start >= geometry.context
    for span in found:
        assert span.start % geometry.unit == span.keep_start % geometry.unit == 0
        assert 0 <= span.start <= span.keep_start < span.keep_end <= span.end <= samples
        assert span.end - span.start >= geometry.shortest
        assert span.end - span.start <= max(geometry.window, samples if len(found) == 1 else 0)


@given(window=st.integers(2, 300), shortest=st.integers(1, 40), samples=st.integers(1, 2000))
def test_without_a_time_axis_windows_follow_one_another(window: int, shortest: int, samples: int) -> None:
    assume(window >= shortest)
    samples = max(samples, shortest)
    found = spans(samples, Geometry(window, shortest=shortest))
    assert [span.keep_start for span in found] == list(range(0, samples, window))
    assert sum(span.kept for span in found) == samples
    assert all(shortest <= span.end - span.start <= window for span in found)
    assert all((span.start, span.end) == (span.keep_start, span.keep_end) for span in found[:-1])


def test_several_outputs_share_windows() -> None:
    [unit] = {math.lcm(320, 640, 1280)}
    geometry = Geometry(30 * RATE, 2 * 1280, unit, 513)
    for span in spans(100 * RATE + 123, geometry):
        row = {str(hop): np.zeros((span.end - span.start) // hop, np.float32) for hop in (320, 640, 1280)}
        few, more, most = (len(Window(row, span).kept(str(hop), hop)) for hop in (1280, 640, 320))
        assert few == more // 2 == most // 4


def test_transformers_windows() -> None:
    geometry = Geometry.of(manifest(), ["embeddings"], WindowOptions(window_seconds=30, context_seconds=5))
    first, second, third = spans(55 * RATE, geometry)
    assert first == Span(0, 30 * RATE, 0, 25 * RATE)
    assert second == Span(20 * RATE, 50 * RATE, 25 * RATE, 45 * RATE)
    assert third == Span(40 * RATE, 55 * RATE, 45 * RATE, 55 * RATE)


def test_windows_are_cut_where_the_engine_takes_no_more_or_where_it_was_asked_for() -> None:
    long = manifest().model_copy(update={"max_samples": 60 * RATE})
    default = Geometry.of(long, ["embeddings"], WindowOptions())
    assert len(spans(60 * RATE, default)) == 1
    assert [span.end - span.start for span in spans(60 * RATE + 1, default)][:2] == [30 * RATE, 30 * RATE]
    asked = Geometry.of(long, ["embeddings"], WindowOptions(window_seconds=20))
    assert len(spans(20 * RATE, asked)) == 1
    assert len(spans(21 * RATE, asked)) == 2


def test_the_default_context() -> None:
    assert Geometry.of(manifest(), ["embeddings"], WindowOptions()).context == 65 * 320  # 1.3 s
    assert Geometry.of(manifest(), ["embeddings"], WindowOptions(window_seconds=4)).context == 50 * 320
    assert Geometry.of(manifest(timed=False), ["embeddings"], WindowOptions()).context == 0


def test_a_context_is_rounded_up_to_frames() -> None:
    assert Geometry.of(manifest(), ["embeddings"], WindowOptions(context_seconds=0.001)).context == 320
    assert Geometry.of(manifest(), ["embeddings"], WindowOptions(context_seconds=0)).context == 0
    assert Geometry.of(manifest(), ["embeddings"], WindowOptions(window_seconds=2, context_seconds=0.5)).context == 8000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_seconds": 31}, "may be 0.5 to 30"),
        ({"window_seconds": 1e308}, "may be 0.5 to 30"),
        ({"context_seconds": 7.6}, "a quarter of the window is taken: 7.5"),
        ({"context_seconds": 1e308}, "a quarter of the window is taken: 7.5"),
    ],
)
def test_what_no_window_has(options: dict[str, float], message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        Geometry.of(manifest(), ["embeddings"], WindowOptions.model_validate(options))
    assert caught.value.param == next(iter(options))


def test_a_context_without_frames() -> None:
    for outputs, of in (((), manifest()), (("embeddings",), manifest(timed=False))):
        with pytest.raises(OptionError, match="no time axis"):
            Geometry.of(of, outputs, WindowOptions(context_seconds=1))
        assert Geometry.of(of, outputs, WindowOptions(context_seconds=0)).context == 0


@pytest.mark.parametrize("name", ["window_seconds", "context_seconds"])
def test_windows_that_are_not_wanted_have_no_size(name: str) -> None:
    with pytest.raises(ValidationError, match="windows=none"):
        WindowOptions.model_validate({"windows": "none", name: 5})


def test_an_engine_that_takes_too_little_for_windows() -> None:
    little = manifest().model_copy(update={"max_samples": 700})
    geometry = Geometry.of(little, ["embeddings"], WindowOptions())
    assert spans(700, geometry) == [Span.whole(700)]
    with pytest.raises(AudioTooLongError):
        spans(701, geometry)


def test_four_hours_are_cut_in_no_time() -> None:
    found = spans(4 * 3600 * RATE, Geometry.of(manifest(), ["embeddings"], WindowOptions(window_seconds=1)))
    assert 4 * 3600 <= len(found) <= 4 * 3600 * 2


def test_text_is_cut_in_pauses() -> None:
    clip = noise(70)
    for pause in (25.0, 51.0, 53.0):
        clip[round(pause * RATE) : round((pause + 0.3) * RATE)] *= 0.01
    found = cut_on_silence(clip, Geometry.of(manifest(), (), WindowOptions()), RATE)
    ends = [span.end / RATE for span in found]
    assert ends == [pytest.approx(25.15, abs=0.1), pytest.approx(53.15, abs=0.1), 70]
    assert [span.start for span in found] == [0, *(span.end for span in found[:-1])]


@given(samples=st.integers(50, 4000), window=st.integers(100, 500), silent=st.booleans())
def test_text_is_cut_whatever_is_there(samples: int, window: int, silent: bool) -> None:
    clip = np.zeros(samples, np.float32) if silent else noise(samples / 1000, 1000)
    found = cut_on_silence(clip, Geometry(window, shortest=50), 1000)
    assert all(50 <= span.end - span.start <= window for span in found)
    assert [span.start for span in found] == [0, *(span.end for span in found[:-1])]
    assert found[-1].end == samples
    assert all(span.kept == span.end - span.start for span in found)
    assert len(found) <= 1 + samples // (window // 2)


def test_the_weight_of_a_window_is_what_it_keeps() -> None:
    windows = [Window({}, Span(0, 300, 0, 300)), Window({}, Span(200, 400, 300, 400))]
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
    [
        ("classify", {"windows": "none"}),
        ("encode", {"pooling": "mean", "windows": "none"}),
        ("encode", {"windows": "none"}),
    ],
)
def test_where_windows_are_refused(short_sighted: Server, task: str, options: dict[str, str]) -> None:
    response = post(short_sighted, task, SHORT, CLIP, **options)
    assert short_sighted.error(response) == (413, "audio_too_long", "file[1]")
    assert "at once" in response.json()["error"]["message"]


def test_rows_that_are_not_frames_are_averaged(short_sighted: Server, longest: int) -> None:
    windows = [CLIP[start : start + longest] for start in range(0, len(CLIP), longest)]
    alone = [np.array(post(short_sighted, "encode", one).json()["data"][0]["embedding"]) for one in windows]
    [item] = post(short_sighted, "encode", CLIP).json()["data"]
    np.testing.assert_allclose(item["embedding"], weighted(alone, longest), rtol=1e-4, atol=1e-5)
    assert (item["windows"], item["frame_rate"], item["shape"]) == (4, None, list(alone[0].shape))


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
