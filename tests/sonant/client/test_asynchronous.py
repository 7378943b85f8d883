from __future__ import annotations

import asyncio
import io
import time
from pathlib import Path

import numpy as np
import pytest

from sonant.client import AsyncClient, ConnectionFailedError, RateLimitError, RequestRefusedError, UploadError
from tests.server.process import free_port, noise
from tests.sonant.client.scripted import Answer, refusal, scripted

ROOT = Path(__file__).parents[3]
AUDIO = ROOT / "demo/audio"
FOUND = Answer(content={"data": [{"text": "hello", "duration": 1.5, "windows": 1}]})


def test_many_calls_at_a_time(demo_server: str) -> None:
    async def main() -> None:
        async with AsyncClient(demo_server) as sonant:
            paths = sorted(AUDIO.glob("*.flac"))
            found = await asyncio.gather(*(sonant.transcribe(path) for path in paths))
            words = sum(
                one.text == path.with_suffix(".txt").read_text().strip() for one, path in zip(found, paths, strict=True)
            )
            assert words > len(paths) / 2
            samples = noise(1.0)
            alone = await sonant.encode(samples, sample_rate=16_000, model="hubert-ctc-english", pooling="mean")
            layers = await sonant.encode(samples, sample_rate=16_000, model="hubert-ctc-english", layer=[0, 1])
            assert (alone.array.shape, [one.layer for one in layers]) == ((layers[0].array.shape[1],), [0, 1])
            label = await sonant.classify(AUDIO / "words/yes.flac")
            assert label.labels[0].label == "yes"
            assert "hubert-ctc-english" in {model.id for model in await sonant.models()}
            with pytest.raises(RequestRefusedError):
                await sonant.transcribe(np.zeros(3, np.float32), sample_rate=16_000)

    asyncio.run(main())


def test_retries_as_the_other_client_does() -> None:
    async def main(url: str) -> None:
        async with AsyncClient(url) as sonant:
            assert (await sonant.transcribe(io.BytesIO(b"audio"))).text == "hello"
        async with AsyncClient(url, retries=0) as sonant:
            with pytest.raises(UploadError):
                await sonant.transcribe("/nowhere")

    with scripted(Answer(0), refusal(429, "queue_full", "0"), FOUND) as server:
        asyncio.run(main(server.url))
        assert [asked.body for asked in server.asked] == [b"audio"] * 3


def test_it_gives_up_in_time() -> None:
    async def main(url: str) -> None:
        async with AsyncClient(url, retry_seconds=0.5) as sonant:
            with pytest.raises(RateLimitError):
                await sonant.transcribe(b"audio")
        async with AsyncClient(f"http://127.0.0.1:{free_port()}", retry_seconds=0.1) as nobody:
            with pytest.raises(ConnectionFailedError):
                await nobody.models()

    with scripted(refusal(429, "queue_full", "1")) as server:
        asyncio.run(main(server.url))
        assert len(server.asked) == 1


def test_a_call_can_be_cancelled_while_it_waits() -> None:
    async def main(url: str) -> None:
        async with AsyncClient(url) as sonant:
            for answer in (b"slow", b"slow"):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.3):
                        await sonant.transcribe(answer)

    with scripted(Answer(seconds=1.0), refusal(429, "queue_full", "60")) as server:
        started = time.monotonic()
        asyncio.run(main(server.url))
        assert time.monotonic() - started < 30
