import base64
import io
import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load

from server.http.body import JSON
from server.routes.embeddings import NPY, SAFETENSORS, Layout, Part, floats, layout
from server.schemas.answers import EncodeAnswer
from server.schemas.options import EncodeOptions

FRAMES = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
ONE = Part(0, None, FRAMES.shape, 50.0, 1.02, 3)


def written(made: Layout, *arrays: NDArray[Any], cuts: tuple[int, ...] = ()) -> bytes:
    """The whole answer; its arrays come in pieces that are cut at these rows."""
    body = made.begin()
    for part, array in zip(made.parts, arrays, strict=True):
        body += made.open(part)
        for start, end in pairwise((0, *cuts, len(array))):
            body += made.encode(np.ascontiguousarray(array[start:end]))
        body += made.close(part)
    return body + made.end()


@pytest.mark.parametrize("media", [JSON, NPY, SAFETENSORS])
@pytest.mark.parametrize("options", [{}, {"dtype": "float16"}, {"encoding_format": "base64"}, {"times": True}])
def test_the_bytes_do_not_depend_on_the_pieces(media: str, options: dict[str, Any]) -> None:
    asked = EncodeOptions.model_validate(options)
    frames = FRAMES.astype(asked.dtype)
    once = written(layout(media, asked, "any", [ONE]), frames)
    for cuts in ((1,), (7, 8, 30), tuple(range(1, 50))):
        made = layout(media, asked, "any", [ONE])
        assert written(made, frames, cuts=cuts) == once
        assert made.length in (None, len(once))
    assert (layout(media, asked, "any", [ONE]).length is None) == (media == JSON and "encoding_format" not in options)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("array", [FRAMES, FRAMES[0]])
def test_npy_is_what_numpy_writes(dtype: str, array: NDArray[np.float32]) -> None:
    part = Part(0, None, array.shape, 50.0, 1.02, 3)
    made = layout(NPY, EncodeOptions.model_validate({"dtype": dtype}), "any", [part])
    file = io.BytesIO()
    np.save(file, array.astype(dtype))
    assert written(made, array.astype(dtype)) == file.getvalue()
    assert made.headers == {"X-Windows": "3", "X-Frame-Rate": "50"}


def test_safetensors(tmp_path: Any) -> None:
    parts = [ONE, Part(1, 6, (2, 6), 25.0, 0.08, 1), Part(1, 0, (6,), None, 0.08, 1)]
    for dtype in ("float32", "float16"):
        made = layout(SAFETENSORS, EncodeOptions.model_validate({"dtype": dtype}), "any", parts)
        arrays = [array.astype(dtype) for array in (FRAMES, FRAMES[:2], FRAMES[0])]
        body = written(made, *arrays)
        assert len(body) == made.length
        tensors = load(body)
        for name, array in zip(("0", "1.layer6", "1.layer0"), arrays, strict=True):
            np.testing.assert_array_equal(tensors[name], array)
            assert tensors[name].dtype == dtype
        (tmp_path / "a").write_bytes(body)
        with safe_open(tmp_path / "a", "numpy") as file:
            assert file.metadata() == {
                "model": "any",
                "0.duration": "1.02",
                "0.frame_rate": "50.0",
                "1.layer6.duration": "0.08",
                "1.layer6.frame_rate": "25.0",
                "1.layer0.duration": "0.08",
            }
        assert made.headers == {"X-Windows": "3,1"}


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_json(encoding_format: str) -> None:
    parts = [ONE, Part(1, 6, (6,), None, 0.5, 1)]
    options = EncodeOptions.model_validate({"encoding_format": encoding_format, "times": True})
    body = json.loads(written(layout(JSON, options, 'an "odd" name', parts), FRAMES, FRAMES[0], cuts=(1, 3)))
    EncodeAnswer.model_validate(body)
    assert (body["object"], body["model"], body["usage"]) == ("list", 'an "odd" name', {"audio_seconds": 1.52})
    first, second = body["data"]
    assert first["times"] == [index / 50 for index in range(50)]
    assert {name: value for name, value in first.items() if name not in ("embedding", "times")} == {
        "object": "embedding",
        "index": 0,
        "shape": [50, 6],
        "frame_rate": 50.0,
        "duration": 1.02,
        "windows": 3,
    }
    assert (second["layer"], second["frame_rate"], "times" in second) == (6, None, False)
    for item, array in ((first, FRAMES), (second, FRAMES[0])):
        found = item["embedding"]
        if encoding_format == "base64":
            found = np.frombuffer(base64.b64decode(found), "<f4").reshape(item["shape"])
        np.testing.assert_array_equal(np.array(found, np.float32), array)


def test_json_has_the_values_that_float16_has() -> None:
    made = layout(JSON, EncodeOptions(dtype="float16"), "any", [ONE])
    [item] = json.loads(written(made, FRAMES.astype(np.float16)))["data"]
    np.testing.assert_array_equal(np.array(item["embedding"], np.float32), FRAMES.astype(np.float16))


@pytest.mark.parametrize("shape", [(3,), (300_000,), (5, 3), (3_000, 144), (1, 200_000)])
def test_json_of_an_array_is_made_piece_by_piece(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).standard_normal(shape, np.float32)
    np.testing.assert_array_equal(np.array(json.loads(floats(array)), np.float32), array)
