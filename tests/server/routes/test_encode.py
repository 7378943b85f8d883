import base64
import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import load

from engines.engine import Engine
from server.errors import NotAcceptableError
from server.http.body import JSON
from server.routes.encode import negotiate
from server.schemas.answers import EncodeAnswer
from tests.server.process import Server, noise, wav

NPY, SAFETENSORS = "application/x-npy", "application/vnd.safetensors"


@pytest.fixture(scope="module")
def engine(models: Path) -> Engine:
    return Engine(models / "tiny-base")


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("*/*", JSON),
        ("", JSON),
        ("image/png, Application/X-NPY, application/json", NPY),
        ("*/*, application/x-npy", JSON),
        ("application/json;q=0.1, application/x-npy", NPY),
        ("application/x-npy;q=0, application/json", JSON),
        ("application/json;q=0, */*;q=0.5, application/vnd.safetensors;v=1;Q=0.7", SAFETENSORS),
        ("application/x-npy;q=high", NPY),
    ],
)
def test_what_is_preferred(accept: str, media: str) -> None:
    assert negotiate(accept) == media


@pytest.mark.parametrize("accept", ["image/png", "application/x-npy;q=0", "*/*;q=0.000"])
def test_what_nobody_gives(accept: str) -> None:
    with pytest.raises(NotAcceptableError):
        negotiate(accept)


def encode(server: Server, *files: bytes, accept: str = "*/*", **options: Any) -> httpx.Response:
    parts = [("file", ("a.wav", data)) for data in files]
    return server.client.post("/v1/encode", files=parts, data=options, headers={"Accept": accept})


def test_the_embeddings_are_those_of_the_engine(server: Server, engine: Engine, speech: bytes) -> None:
    response = encode(server, speech)
    [row] = engine.run([noise(1.5)], ["embeddings"])
    body = response.json()
    EncodeAnswer.model_validate(body)
    assert body["object"] == "list"
    assert body["model"] == "tiny-base"
    assert body["usage"] == {"audio_seconds": 1.5}
    [item] = body["data"]
    assert item["shape"] == list(row["embeddings"].shape)
    assert item["duration"] == 1.5
    samples_per_frame = engine.manifest.output("embeddings").samples_per_frame
    assert samples_per_frame
    assert item["frame_rate"] == engine.manifest.sample_rate / samples_per_frame
    assert "layer" not in item
    np.testing.assert_allclose(item["embedding"], row["embeddings"], rtol=1e-5, atol=1e-6)


def test_base64_is_little_endian_float32(server: Server, speech: bytes) -> None:
    [item] = encode(server, speech, encoding_format="base64").json()["data"]
    array = np.frombuffer(base64.b64decode(item["embedding"]), "<f4").reshape(item["shape"])
    [floats] = encode(server, speech).json()["data"]
    np.testing.assert_allclose(array, floats["embedding"], rtol=1e-6)


def test_npy(server: Server, speech: bytes) -> None:
    response = encode(server, speech, accept=NPY, pooling="mean", layer=1)
    assert response.headers["Content-Type"] == NPY
    array = np.load(io.BytesIO(response.content), allow_pickle=False)
    [item] = encode(server, speech, pooling="mean", layer=1).json()["data"]
    np.testing.assert_allclose(array, item["embedding"], rtol=1e-6)


def test_npy_holds_one_array(server: Server, speech: bytes) -> None:
    assert server.error(encode(server, speech, speech, accept=NPY)) == (406, "not_acceptable", "Accept")
    assert server.error(encode(server, speech, accept=NPY, layer=[0, 1])) == (406, "not_acceptable", "Accept")


def test_safetensors(server: Server, speech: bytes) -> None:
    files = (speech, wav(noise(0.7)))
    assert set(load(encode(server, *files, accept=SAFETENSORS).content)) == {"0", "1"}
    tensors = load(encode(server, *files, accept=f"{SAFETENSORS}, */*;q=0.1", layer=[1, 0]).content)
    assert set(tensors) == {"0.layer0", "0.layer1", "1.layer0", "1.layer1"}
    data = encode(server, *files, layer=[1, 0]).json()["data"]
    assert [(item["index"], item["layer"]) for item in data] == [(0, 1), (0, 0), (1, 1), (1, 0)]
    for item in data:
        tensor = tensors[f"{item['index']}.layer{item['layer']}"]
        np.testing.assert_allclose(tensor, item["embedding"], rtol=1e-6)


def test_what_cannot_be_given(server: Server, speech: bytes) -> None:
    assert server.error(encode(server, speech, accept="image/png")) == (406, "not_acceptable", "Accept")
    response = encode(server, speech, accept=NPY, encoding_format="base64")
    assert server.error(response) == (422, "option_invalid", "encoding_format")


def test_several_clips_are_as_one_at_a_time(server: Server) -> None:
    files = [wav(noise(seconds, seed=seed)) for seed, seconds in enumerate((0.3, 2.0, 1.1))]
    together = encode(server, *files, pooling="mean").json()["data"]
    for index, data in enumerate(files):
        [alone] = encode(server, data, pooling="mean").json()["data"]
        assert together[index]["index"] == index
        np.testing.assert_allclose(together[index]["embedding"], alone["embedding"], rtol=1e-4, atol=1e-6)


def test_every_rate_and_format_is_read(server: Server) -> None:
    for rate, format_, subtype in ((8_000, "WAV", "PCM_16"), (44_100, "FLAC", "PCM_24"), (48_000, "OGG", "OPUS")):
        response = encode(server, wav(noise(1, rate), rate, format_, subtype), pooling="mean")
        assert response.json()["data"][0]["duration"] == pytest.approx(1, abs=1e-3)
