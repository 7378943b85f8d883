import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from engines.batch import Clip
from server.errors import AudioEmptyError, AudioTooShortError, EngineFailedError, StreamTooLongError
from server.streaming.cuts import Cut, Overlapping
from server.streaming.samples import Samples
from server.streaming.session import WAITING_SECONDS, Final, Partial, Session, capacity
from server.streaming.texts import Text
from server.windows import Geometry, Span, spans

RATE = 1000
GEOMETRY = Geometry(window=2000, context=200, unit=10, shortest=50, longest=2000)


@dataclass
class Fake:
    """Tells which samples it was given; as slow as its gates."""

    cut: Cut = field(default_factory=lambda: Overlapping(GEOMETRY))
    has_partials: bool = True
    seen: list[Span] = field(default_factory=list)
    final_gate: asyncio.Event = field(default_factory=asyncio.Event)
    partial_gate: asyncio.Event = field(default_factory=asyncio.Event)
    running: int = 0
    partials: int = 0
    fault: bool = False

    def __post_init__(self) -> None:
        self.final_gate.set()
        self.partial_gate.set()

    async def final(self, clip: Clip, span: Span, is_last: bool) -> Text:
        assert clip.tolist() == [number / 2**15 for number in range(span.start, span.end)]
        self.seen.append(span)
        await self._wait(self.final_gate)
        if self.fault:
            raise EngineFailedError("broken")
        return Text("last" if is_last else "final", span.keep_start, span.keep_end, None)

    async def partial(self, clip: Clip, span: Span, seconds: float) -> Text | None:
        self.partials += 1
        await self._wait(self.partial_gate)
        return Text("partial", span.keep_start, span.keep_end, None)

    async def _wait(self, gate: asyncio.Event) -> None:
        self.running += 1
        assert self.running == 1
        try:
            await gate.wait()
        finally:
            self.running -= 1


def run(test: Callable[[Fake], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(test(Fake()), 20)

    asyncio.run(limited())


def session(fake: Fake, interim: float = 0.5, longest: float = 100) -> Session:
    return Session(fake, Samples("pcm16", RATE, RATE), RATE, interim, longest)


def audio(samples: int, start: int = 0) -> bytes:
    return np.arange(start, start + samples, dtype="<i2").tobytes()


async def rest(stream: Session) -> list[Partial | Final]:
    return [text async for text in stream.texts()]


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_the_windows_are_those_of_the_clip() -> None:
    async def test(fake: Fake) -> None:
        stream = session(fake, interim=0)
        found = asyncio.create_task(rest(stream))
        data = audio(7_777)
        for start in range(0, len(data), 333):
            await stream.feed(data[start : start + 333])
        await stream.end()
        texts = [text.text.text for text in await found]
        assert fake.seen == spans(7_777, GEOMETRY)
        assert texts == [*["final"] * (len(texts) - 1), "last"]
        assert stream.seconds == 7.777

    run(test)


def test_more_than_there_is_room_for_waits() -> None:
    async def test(fake: Fake) -> None:
        fake.final_gate.clear()
        stream = session(fake)
        found = asyncio.create_task(rest(stream))
        feeding = asyncio.create_task(stream.feed(audio(30_000)))
        await turns()
        assert not feeding.done()
        held = stream.seconds * RATE
        assert held <= 2 * capacity(fake, RATE)
        assert capacity(fake, RATE) == 2050 + WAITING_SECONDS * RATE
        await turns()
        assert stream.seconds * RATE == held
        fake.final_gate.set()
        await feeding
        await stream.end()
        await found
        assert fake.seen == spans(30_000, GEOMETRY)

    run(test)


def test_partial_texts_come_with_new_audio_one_at_a_time() -> None:
    async def test(fake: Fake) -> None:
        fake.partial_gate.clear()
        stream = session(fake)
        texts = stream.texts()
        first = asyncio.ensure_future(anext(texts))
        await stream.feed(audio(490))
        await turns()
        assert fake.partials == 0
        await stream.feed(audio(10, 490))
        await turns()
        await stream.feed(audio(700, 500))
        await turns()
        assert fake.partials == 1
        fake.partial_gate.set()
        assert (await first).text.end == 500
        assert (await anext(texts)).text.end == 1200
        assert fake.partials == 2
        await stream.end()
        assert isinstance(await anext(texts), Final)

    run(test)


@pytest.mark.parametrize("ends", [False, True])
def test_a_final_text_does_not_wait_for_a_partial_one(ends: bool) -> None:
    async def test(fake: Fake) -> None:
        fake.partial_gate.clear()
        stream = session(fake)
        texts = stream.texts()
        first = asyncio.ensure_future(anext(texts))
        await stream.feed(audio(600))
        await turns()
        assert fake.partials == 1
        await (stream.end() if ends else stream.feed(audio(1500, 600)))
        assert isinstance(await first, Final)

    run(test)


def test_what_fails_in_the_engine_ends_the_stream() -> None:
    async def test(fake: Fake) -> None:
        fake.fault = True
        stream = session(fake)
        await stream.feed(audio(3000))
        with pytest.raises(EngineFailedError):
            await rest(stream)

    run(test)


def test_cancelling_drops_what_runs() -> None:
    async def test(fake: Fake) -> None:
        for gate, samples in ((fake.partial_gate, 600), (fake.final_gate, 3000)):
            gate.clear()
            stream = session(fake)
            found = asyncio.create_task(rest(stream))
            await stream.feed(audio(samples))
            await turns()
            assert fake.running == 1
            found.cancel()
            await turns()
            assert found.cancelled()
            assert fake.running == 0

    run(test)


@pytest.mark.parametrize(("samples", "error"), [(0, AudioEmptyError), (49, AudioTooShortError)])
def test_too_little_audio(samples: int, error: type[Exception]) -> None:
    async def test(fake: Fake) -> None:
        stream = session(fake)
        await stream.feed(audio(samples))
        with pytest.raises(error):
            await stream.end()

    run(test)


def test_too_much_audio() -> None:
    async def test(fake: Fake) -> None:
        stream = session(fake, longest=1)
        await stream.feed(audio(1000))
        with pytest.raises(StreamTooLongError):
            await stream.feed(audio(10))

    run(test)
