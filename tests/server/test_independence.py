"""Under load, among clients that leave and clips that make batches fail, every answer is what it is alone."""

from __future__ import annotations

import asyncio
import io
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.load.client import BROKEN, Answer, Client, Request
from tests.server.faulty import PROGRAM, poisoned
from tests.server.process import Server, noise, serving, wav

PATHS = ("/v1/encode", "/v1/encode?layer=1", "/v1/encode?pooling=mean", "/v1/transcribe", "/v1/classify")
CLIPS = 24
AT_A_TIME = 24
LEAVING, POISON = 0.1, 0.04  # shares of the requests
NPY = {"Accept": "application/x-npy"}


@dataclass(frozen=True)
class Asked:
    """A request, and what is to become of it."""

    request: Request
    alone: int | None = None  # whose answer it must equal; None: it must fail
    leaves_at: float | None = None  # the share of its bytes after which the client leaves


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    # Batches that mix lengths as they never would: what could differ, does.
    with serving(
        models, defaults={"encode": "tiny-base"}, program=PROGRAM, max_padding=0.5, calibrate="off"
    ) as running:
        yield running


@pytest.mark.parametrize("count", [2_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_every_survivor_is_as_alone(server: Server, count: int) -> None:
    generator = random.Random(count)
    clips = [noise(generator.uniform(0.05, 4), seed=seed) for seed in range(CLIPS)]
    requests = [post(path, wav(clip)) for path in PATHS for clip in clips]
    poison = [
        post(path, wav(poisoned(clip, fault))) for path in PATHS for clip in clips[:2] for fault in ("raise", "nan")
    ]
    alone = asyncio.run(ask(server.port, [Asked(request, index) for index, request in enumerate(requests)], 1))
    assert {answer.status for answer in alone} == {200}

    def draw() -> Asked:
        kind, index = generator.random(), generator.randrange(len(requests))
        if kind < POISON:
            return Asked(generator.choice(poison))
        asked = Asked(requests[index], index)
        return replace(asked, leaves_at=generator.choice([0.1, 0.9, 1.0, 1.0])) if kind < POISON + LEAVING else asked

    together = [draw() for _ in range(count)]
    answers = asyncio.run(ask(server.port, together, AT_A_TIME))
    outcomes: Counter[str] = Counter()
    for asked, answer in zip(together, answers, strict=True):
        outcomes[check(asked, answer, alone)] += 1
    assert outcomes["equal"] > (1 - 2 * LEAVING - 2 * POISON) * count
    assert outcomes["failed"] > POISON / 2 * count
    assert outcomes["left"] > LEAVING / 2 * count
    assert server.client.get("/health/ready").status_code == 200


def post(path: str, data: bytes) -> Request:
    return Request.post(path, data, 0.0, NPY if path.startswith("/v1/encode") else {})


def check(asked: Asked, answer: Answer, alone: list[Answer]) -> str:
    """Return what became of a request, after a look at whether it was right."""
    if asked.leaves_at is not None:
        return "left"
    if asked.alone is None:
        assert answer.status == 500, answer
        assert json.loads(answer.body)["error"]["code"] == "engine_failed"
        return "failed"
    assert answer.status == 200, answer
    compare(answer, alone[asked.alone])
    return "equal"


def compare(answer: Answer, alone: Answer) -> None:
    assert answer.headers["content-type"] == alone.headers["content-type"]
    if answer.headers["content-type"] == NPY["Accept"]:
        found, expected = (np.load(io.BytesIO(each.body)) for each in (answer, alone))
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
        return
    [one], [other] = (json.loads(each.body)["data"] for each in (answer, alone))
    for item in (one, other):
        item.pop("confidence", None)
    assert scores(one) == pytest.approx(scores(other), abs=1e-5)
    assert one == other


def scores(item: dict[str, Any]) -> dict[str, float]:
    return {label["label"]: label["score"] for label in item.pop("labels", [])}


async def ask(port: int, asked: list[Asked], at_a_time: int) -> list[Answer]:
    """Return the answers in the order of the requests."""
    client, following = Client(port), iter(enumerate(asked))
    answers: list[Answer] = [BROKEN] * len(asked)

    async def ask_in_turn() -> None:
        for index, one in following:
            answers[index] = await (client.ask(one.request) if one.leaves_at is None else leave(port, one))

    await asyncio.gather(*(ask_in_turn() for _ in range(at_a_time)))
    client.close()
    return answers


async def leave(port: int, asked: Asked) -> Answer:
    """Send a part of the request, or all of it, and go: at once, or when it may wait, run or be answered."""
    assert asked.leaves_at is not None
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    data = asked.request.head + asked.request.body
    writer.write(data[: round(asked.leaves_at * len(data))])
    await asyncio.sleep(random.random() * 0.05)
    writer.transport.abort()
    return BROKEN
