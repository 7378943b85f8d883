import numpy as np
import pytest
from numpy.typing import NDArray

from server.errors import OptionError
from server.schemas import EncodeOptions
from server.tasks.encode import Encode
from tests.server.tasks.manifests import manifest

FRAMES = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)


def encode(options: EncodeOptions, frames: NDArray[np.float32] = FRAMES) -> NDArray[np.float32]:
    [encoding] = Encode(manifest(), options).result({"embeddings": frames})
    assert encoding.layer is None
    assert encoding.array.dtype == np.float32
    return encoding.array


def test_without_options_the_embeddings_come_as_they_are() -> None:
    task = Encode(manifest(), EncodeOptions())
    assert task.outputs == ("embeddings",)
    [encoding] = task.result({"embeddings": FRAMES})
    assert encoding.array is FRAMES
    assert encoding.frame_rate_hz == 50.0


def test_pooling() -> None:
    np.testing.assert_allclose(encode(EncodeOptions(pooling="mean")), FRAMES.astype(np.float64).mean(0), rtol=1e-6)
    np.testing.assert_array_equal(encode(EncodeOptions(pooling="max")), FRAMES.max(0))
    np.testing.assert_array_equal(encode(EncodeOptions(pooling="first")), FRAMES[0])


def test_a_pooled_vector_has_no_frame_rate() -> None:
    [encoding] = Encode(manifest(), EncodeOptions(pooling="mean")).result({"embeddings": FRAMES})
    assert encoding.frame_rate_hz is None


def test_an_output_without_a_time_axis_has_no_frame_rate() -> None:
    [encoding] = Encode(manifest(timed=False), EncodeOptions()).result({"embeddings": FRAMES})
    assert encoding.frame_rate_hz is None


def test_the_mean_of_a_long_clip_loses_nothing() -> None:
    frames = np.full((1_000_000, 4), 0.1, np.float32)
    np.testing.assert_array_equal(encode(EncodeOptions(pooling="mean"), frames), frames[0])


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
    encodings = task.result({"hidden_states.0": FRAMES, "hidden_states.2": 2 * FRAMES})
    assert [encoding.layer for encoding in encodings] == [2, 0]
    np.testing.assert_array_equal(encodings[0].array, 2 * FRAMES)


def test_a_layer_that_is_not_there() -> None:
    with pytest.raises(OptionError, match="no hidden state 1; it has: 0, 2") as caught:
        Encode(manifest(), EncodeOptions(layer=1))
    assert caught.value.param == "layer"
