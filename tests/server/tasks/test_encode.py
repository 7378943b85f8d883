import numpy as np
import pytest
from numpy.typing import NDArray

from engines.batch import Row
from engines.manifest import Manifest, Output
from server.errors import OptionError, OptionNotSupportedError
from server.schemas.options import EncodeOptions, Pooling
from server.tasks.encode import Encode, Encoding
from server.windows import Window
from tests.server.tasks.manifests import manifest

FRAMES = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)


def results(task: Encode, *rows: Row) -> list[Encoding]:
    """The encodings of a clip with these windows, each a second shorter than the one before."""
    return task.result([Window(task.reduce(row), 48_000 - 16_000 * index) for index, row in enumerate(rows)])


def with_pooler() -> Manifest:
    plain = manifest()
    return plain.model_copy(update={"outputs": (*plain.outputs, Output(name="pooled", shape=("batch", 4)))})


def encode(options: EncodeOptions, frames: NDArray[np.float32] = FRAMES) -> NDArray[np.float32]:
    [encoding] = results(Encode(manifest(), options), {"embeddings": frames})
    assert encoding.layer is None
    assert encoding.array.dtype == np.float32
    return encoding.array


def test_without_options_the_embeddings_come_as_they_are() -> None:
    task = Encode(manifest(), EncodeOptions())
    assert task.outputs == ("embeddings",)
    [encoding] = results(task, {"embeddings": FRAMES})
    assert encoding.array is FRAMES
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


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", 0.6 * FRAMES[:30].mean(0) + 0.4 * FRAMES[30:].mean(0)),
        ("max", FRAMES.max(0)),
        ("first", FRAMES[0]),
    ],
)
def test_the_vectors_of_windows_become_one(pooling: Pooling, expected: NDArray[np.float32]) -> None:
    task = Encode(manifest(), EncodeOptions(pooling=pooling))
    [encoding] = results(task, {"embeddings": FRAMES[:30]}, {"embeddings": FRAMES[30:]})
    np.testing.assert_allclose(encoding.array, expected, rtol=1e-6, atol=1e-7)
    assert encoding.array.dtype == np.float32


def test_the_vectors_of_windows_are_normalized_last() -> None:
    task = Encode(with_pooler(), EncodeOptions(pooling="model", normalize=True))
    [encoding] = results(task, {"pooled": FRAMES[0]}, {"pooled": FRAMES[1]})
    average = 0.6 * FRAMES[0] + 0.4 * FRAMES[1]
    np.testing.assert_allclose(encoding.array, average / np.linalg.norm(average), rtol=1e-6)


def test_only_what_is_pooled_is_windowed() -> None:
    assert Encode(manifest(), EncodeOptions(pooling="max")).windowed
    assert not Encode(manifest(), EncodeOptions()).windowed
    assert not Encode(manifest(), EncodeOptions(pooling="max", windows="none")).windowed
