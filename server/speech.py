"""What the routes that write down speech share: the clips of a request -> transcripts, whatever kind of model it is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from server.audio.decoders import Source
from server.decoding.text import TextDecoder
from server.decoding.transcript import Transcript
from server.formats.items import Item, item
from server.metrics import stage
from server.models.model import Served
from server.running import ClipRow, ClipText
from server.schemas.options import TranscribeOptions
from server.service import Context
from server.steps import Steps, at_once
from server.tasks.transcribe import Transcribe, Write

T = TypeVar("T")


@dataclass(frozen=True)
class Said:
    """What was said in one clip of `duration` seconds, which was cut into so many `windows`."""

    transcript: Transcript
    duration: float
    windows: int


def describe(said: Said, options: TranscribeOptions) -> Item:
    """Return what JSON says of one clip."""
    language = {"language": options.language} if options.language else {}
    verbose = options.response_format == "verbose_json"
    return {
        **item(said.transcript, verbose=verbose),
        **language,
        "duration": said.duration,
        "windows": said.windows,
    }


@dataclass(frozen=True)
class Speech:
    """One request; its `deadline` is that of Service.run. Raises ApiError, also for its options."""

    asked: Context
    served: Served
    options: TranscribeOptions
    deadline: float

    async def transcribe(self, sources: Sequence[Source], make: Callable[[Sequence[Said]], T]) -> T:
        """Return what `make`, which is called in a thread, makes of what is said in each clip."""
        text = self.served.text
        said = await (self._labelled(sources) if text is None else self._written(text, sources))
        with stage(self.asked.timings, "postprocess"):
            return await self.asked.service.offload_steps(_made(said, make))

    async def stream(self, source: Source) -> AsyncGenerator[str, None]:
        """Yield what each window of a clip adds to its text: all of it, one after the other, is the text.

        Where what was said is known only at the end, that is where all of it comes.
        """
        text = self.served.text
        deltas = self._windows_labelled(source) if text is None else self._windows_written(text, source)
        async with aclosing(deltas):
            async for delta in deltas:
                if delta:
                    yield delta

    async def _labelled(self, sources: Sequence[Source]) -> Steps[list[Said]]:
        """Run a model that labels the frames; return the steps to what is said."""
        task = self._labelling()
        rows = await self.asked.service.run(
            self.served, task, sources, self.asked.timings, self.asked.answer, self.deadline
        )
        return _said((clip, task.result(clip.windows)) for clip in rows)

    async def _written(self, text: TextDecoder, sources: Sequence[Source]) -> Steps[list[Said]]:
        """Have a model write that does so token by token; return the steps to what is said."""
        task = self._writing(text)
        texts = await self.asked.service.generate(self.served, task, sources, self.asked.timings, self.deadline)
        return _said((clip, at_once(partial(task.result, clip.windows))) for clip in texts)

    async def _windows_labelled(self, source: Source) -> AsyncGenerator[str, None]:
        task = self._labelling()
        increment = task.increments()
        if increment is None:
            yield await self.transcribe([source], lambda said: said[0].transcript.text)
            return
        async with (
            self.asked.service.opened(self.served, task, [source], self.asked.timings, self.deadline) as runner,
            aclosing(runner.in_order(self.asked.answer)) as windows,
        ):
            async for window in windows:
                yield await self.asked.service.offload(partial(increment, window))

    async def _windows_written(self, text: TextDecoder, source: Source) -> AsyncGenerator[str, None]:
        task = self._writing(text)
        joined = ""
        async with (
            self.asked.service.writing(self.served, task, [source], self.asked.timings, self.deadline) as writer,
            aclosing(writer.in_order()) as windows,
        ):
            async for window in windows:
                said = await self.asked.service.offload(partial(task.result, [window]))
                if len(writer.cuts[0].spans) == 1:
                    yield said.text
                elif part := said.text.strip():
                    yield joined + part
                    joined = " "

    def _labelling(self) -> Transcribe:
        return Transcribe(self.served.engine.manifest, self.options, self.asked.service.settings)

    def _writing(self, text: TextDecoder) -> Write:
        return Write(self.served.engine.manifest, text, self.options, self.asked.service.settings)


def _said(clips: Iterable[tuple[ClipRow | ClipText, Steps[Transcript]]]) -> Steps[list[Said]]:
    found = []
    for clip, steps in clips:
        transcript = yield from steps
        found.append(Said(transcript, clip.duration, len(clip.windows)))
    return found


def _made(said: Steps[list[Said]], make: Callable[[Sequence[Said]], T]) -> Steps[T]:
    return make((yield from said))
