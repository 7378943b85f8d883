from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.batch import Row
from engines.manifest import Manifest, Output
from server.errors import OptionError, OptionNotSupportedError
from server.schemas.options import EncodeOptions, Pooling
from server.tasks.encode import Encode, Encoding
from server.windows import Span, Window
from tests.server.tasks.manifests import manifest

FRAMES = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)


def results(task: Encode, *rows: Row) -> list[Encoding]:
    """The encodings of a clip of which these are the windows: all keep a second, and the last what is left."""
    found = []
    for index, row in enumerate(rows):
        start, is_last = max(0, 16_000 * index - 3_200), index == len(rows) - 1
        span = Span(start, 16_000 * (index + 1) + (0 if is_last else 3_200), 16_000 * index, 16_000 * (index + 1))
        window = Window(row, span)
        found.append(Window(task.reduce(window), span) if task.reduce else window)
    return task.result(found)


def with_pooler() -> Manifest:
    plain = manifest()
    return plain.model_copy(update={"outputs": (*plain.outputs, Output(name="pooled", shape=("batch", 4)))})


def encode(options: EncodeOptions, frames: NDArray[np.float32] = FRAMES, dtype: Any = np.float32) -> NDArray[Any]:
    [encoding] = results(Encode(manifest(), options), {"embeddings": frames})
    assert encoding.layer is None
    assert encoding.array.dtype == dtype
    return encoding.array


def test_without_options_the_embeddings_come_as_they_are() -> None:
    task = Encode(manifest(), EncodeOptions())
    assert task.outputs == ("embeddings",)
    [encoding] = results(task, {"embeddings": FRAMES})
    assert np.shares_memory(encoding.array, FRAMES)
    assert task.reduce is None
    assert encoding.shape == (50, 4)
    assert encoding.frame_rate_hz == 50.0


def test_pooling() -> None:
    np.testing.assert_allclose(encode(EncodeOptions(pooling="mean")), FRAMES.astype(np.float64).mean(0), rtol=1e-6)
    np.testing.assert_array_equal(encode(EncodeOptions(pooling="max")), FRAMES.max(0))
    np.testing.assert_array_equal(encode(EncodeOptions(pooling="first")), FRAMES[0])


def test_a_pooled_vector_has_no_frame_rate() -> None:
    [encoding] = results(Encode(manifest(), EncodeOptions(pooling="mean")), {"embeddings": FRAMES})
    assert encoding.frame_rate_hz is None


def test_an_output_without_a_time_axis_has_no_frame_rate() -> None:
    [encoding] = results(Encode(manifest(timed=False), EncodeOptions()), {"embeddings": FRAMES})
    assert encoding.frame_rate_hz is None


def test_the_mean_of_a_long_clip_loses_nothing() -> None:
    frames = np.full((1_000_000, 4), 0.1, np.float32)
    np.testing.assert_array_equal(encode(EncodeOptions(pooling="mean"), frames), frames[0])


def test_float16() -> None:
    array = encode(EncodeOptions(dtype="float16"), FRAMES * np.float32(1e5), dtype=np.float16)
    expected = np.clip(FRAMES * np.float32(1e5), -65504, 65504).astype(np.float16)
    np.testing.assert_array_equal(array, expected)
    assert np.isfinite(array).all()
    assert (np.abs(array) == 65504).any()


def test_an_array_comes_in_pieces() -> None:
    for options in (EncodeOptions(), EncodeOptions(normalize=True, dtype="float16"), EncodeOptions(pooling="max")):
        [encoding] = results(Encode(manifest(), options), {"embeddings": FRAMES})
        pieces = [encoding.finish(piece) for piece in encoding.pieces(12)]
        assert all(piece.size <= 12 for piece in pieces)
        np.testing.assert_array_equal(np.concatenate(pieces), encoding.array)
        assert encoding.array.shape == encoding.shape
        assert {piece.dtype for piece in pieces} == {encoding.array.dtype}


@pytest.mark.parametrize("pooling", ["none", "mean"])
def test_normalize_makes_each_vector_of_length_one(pooling: str) -> None:
    frames = FRAMES * np.float32(1e25)  # whose squares overflow float32
    array = encode(EncodeOptions.model_validate({"pooling": pooling, "normalize": True}), frames)
    np.testing.assert_allclose(np.linalg.norm(array, axis=-1), 1, rtol=1e-6)


def test_normalize_leaves_zeros() -> None:
    zeros = np.zeros((3, 4), np.float32)
    np.testing.assert_array_equal(encode(EncodeOptions(normalize=True), zeros), zeros)


def test_several_layers_come_in_the_order_of_the_request() -> None:
    task = Encode(manifest(), EncodeOptions(layer=[2, 0]))
    assert task.outputs == ("hidden_states.2", "hidden_states.0")
    encodings = results(task, {"hidden_states.0": FRAMES, "hidden_states.2": 2 * FRAMES})
    assert [encoding.layer for encoding in encodings] == [2, 0]
    np.testing.assert_array_equal(encodings[0].array, 2 * FRAMES)


def test_a_layer_that_is_not_there() -> None:
    with pytest.raises(OptionError, match="no hidden state 1; it has: 0, 2") as caught:
        Encode(manifest(), EncodeOptions(layer=1))
    assert caught.value.param == "layer"


def test_the_pooling_of_the_model_itself() -> None:
    task = Encode(with_pooler(), EncodeOptions(pooling="model"))
    assert task.outputs == ("pooled",)
    [encoding] = results(task, {"pooled": FRAMES[0]})
    assert (encoding.layer, encoding.frame_rate_hz) == (None, None)
    np.testing.assert_array_equal(encoding.array, FRAMES[0])


def test_the_pooling_of_a_model_that_has_none() -> None:
    with pytest.raises(OptionNotSupportedError, match="no pooled output") as caught:
        Encode(manifest(), EncodeOptions(pooling="model"))
    assert caught.value.param == "pooling"


def test_a_layer_has_no_pooling_of_the_model() -> None:
    with pytest.raises(OptionError, match="leave out 'layer'") as caught:
        Encode(with_pooler(), EncodeOptions(pooling="model", layer=2))
    assert caught.value.param == "pooling"


WINDOWS = {"embeddings": FRAMES}, {"embeddings": -2 * FRAMES}
# Of frames that begin in the second that a window keeps: the first begins with the clip, the second 10 frames before.
KEPT = np.concatenate([FRAMES[:50], -2 * FRAMES[10:]])


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [("mean", KEPT.mean(0, np.float64)), ("max", KEPT.max(0)), ("first", KEPT[0]), ("none", KEPT)],
)
def test_what_windows_keep_becomes_one(pooling: Pooling, expected: NDArray[np.float32]) -> None:
    task = Encode(manifest(), EncodeOptions(pooling=pooling))
    [encoding] = results(task, *WINDOWS)
    np.testing.assert_allclose(encoding.array, expected, rtol=1e-6, atol=1e-7)
    assert encoding.array.dtype == np.float32
    assert encoding.shape == expected.shape


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", (FRAMES[:7].mean(0) - 2 * FRAMES[:7].mean(0)) / 2),
        ("none", -FRAMES[:7] / 2),
        ("max", np.maximum(FRAMES[:7].max(0), (-2 * FRAMES[:7]).max(0))),
        ("first", FRAMES[0]),
    ],
)
def test_without_a_time_axis_windows_are_averaged(pooling: Pooling, expected: NDArray[np.float32]) -> None:
    task = Encode(manifest(timed=False), EncodeOptions(pooling=pooling))
    [encoding] = results(task, {"embeddings": FRAMES[:7]}, {"embeddings": -2 * FRAMES[:7]})
    np.testing.assert_allclose(encoding.array, expected, rtol=1e-6, atol=1e-7)
    assert task.streamed is None


def test_the_vectors_of_windows_are_normalized_last() -> None:
    task = Encode(with_pooler(), EncodeOptions(pooling="model", normalize=True))
    [encoding] = results(task, {"pooled": FRAMES[0]}, {"pooled": FRAMES[1]})
    average = FRAMES[0] + FRAMES[1]
    np.testing.assert_allclose(encoding.array, average / np.linalg.norm(average), rtol=1e-6)
    assert task.reduce is None


def test_frames_of_one_layer_can_be_streamed() -> None:
    streamed = Encode(manifest(), EncodeOptions(layer=2)).streamed
    assert streamed
    assert (streamed.name, streamed.layer, streamed.frame_rate_hz) == ("hidden_states.2", 2, 50)
    assert Encode(manifest(), EncodeOptions(layer=[0, 2])).streamed is None
    assert Encode(manifest(), EncodeOptions(pooling="mean")).streamed is None


def test_all_is_windowed_unless_that_is_refused() -> None:
    assert Encode(manifest(), EncodeOptions(pooling="max")).windowed
    assert Encode(manifest(), EncodeOptions()).windowed
    assert not Encode(manifest(), EncodeOptions(windows="none")).windowed


def test_times_are_of_frames() -> None:
    assert Encode(manifest(), EncodeOptions(times=True)).windowed
    with pytest.raises(OptionError, match="pooling=none") as caught:
        Encode(manifest(), EncodeOptions(times=True, pooling="mean"))
    assert caught.value.param == "times"
    with pytest.raises(OptionNotSupportedError, match="no times") as caught:
        Encode(manifest(timed=False), EncodeOptions(times=True))
    assert caught.value.param == "times"
