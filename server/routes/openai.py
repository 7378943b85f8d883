"""POST /v1/audio/transcriptions and /v1/audio/translations, as OpenAI's clients call them: one clip each.

`model` is the name of a model here: one that is not here is not found, unless `openai_models` gives it a meaning.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from typing import Literal, TypeVar

from fastapi import Request, Response

from server.audio.decoders import Source
from server.errors import OptionError, OptionNotSupportedError, TaskNotSupportedError, TooManyClipsError
from server.formats import openai
from server.formats.documents import DOCUMENTS
from server.http.body import JSON
from server.models.model import Served
from server.routes.answers import context, to_json
from server.routes.direct import direct_router
from server.routes.documentation import responses, task_body
from server.routes.events import EVENTS, Emit, Events, event
from server.routes.inputs import Inputs, read_inputs
from server.routes.transcribe import windows_header
from server.schemas.openai import (
    SpeechAnswer,
    SpeechOptions,
    TranscriptionOptions,
    TranslationOptions,
    VerboseSpeechAnswer,
)
from server.service import Service
from server.speech import Said, Speech

router = direct_router()

OptionsT = TypeVar("OptionsT", bound=SpeechOptions)

DOCUMENT_TYPES = [document.media_type for document in DOCUMENTS.values()]
# What a text is sent in: a word, with the space before it, and what is left.
WORD = re.compile(r"\s*\S+|\s+$")


@router.post(
    "/v1/audio/transcriptions",
    summary="Audio -> text, for OpenAI's clients",
    responses=responses(VerboseSpeechAnswer | SpeechAnswer, *DOCUMENT_TYPES, EVENTS),
    openapi_extra=task_body(TranscriptionOptions, several=False),
)
async def transcriptions(request: Request) -> Response:
    """Transcribe one clip; with `stream`, send the text as events while it is found."""
    asked = context(request)

    async def make(emit: Emit) -> Response | None:
        async with (
            read_inputs(request, TranscriptionOptions, asked.service) as inputs,
            lease(inputs, asked.service) as served,
        ):
            request.state.model = served.engine.name
            options = inputs.options
            check(options, inputs.sources)
            check_transcription(options, served)
            speech = Speech(asked, served, options.task(), inputs.deadline)
            with in_their_words():
                if not options.stream:
                    return await respond(speech, options, inputs.sources, "transcribe", options.granularities)
                await stream(speech, inputs.sources[0], emit)
            return None

    return Events(make)


@router.post(
    "/v1/audio/translations",
    summary="Audio -> text in another language, for OpenAI's clients",
    responses=responses(VerboseSpeechAnswer | SpeechAnswer, *DOCUMENT_TYPES),
    openapi_extra=task_body(TranslationOptions, several=False),
)
async def translations(request: Request) -> Response:
    """Translate one clip into the language that the model writes, which is English only if that is the model's."""
    asked = context(request)
    async with (
        read_inputs(request, TranslationOptions, asked.service) as inputs,
        lease(inputs, asked.service) as served,
    ):
        request.state.model = served.engine.name
        check(inputs.options, inputs.sources)
        check_translation(served)
        speech = Speech(asked, served, inputs.options.task(), inputs.deadline)
        return await respond(speech, inputs.options, inputs.sources, "translate")


def lease(inputs: Inputs[OptionsT], service: Service) -> AbstractAsyncContextManager[Served]:
    """Return what holds the model that is meant; see Models.lease."""
    name = inputs.options.model
    return service.models.lease(service.settings.openai_models.get(name or "", name), "transcribe")


def check(options: SpeechOptions, sources: Sequence[Source]) -> None:
    """Raise what is wrong with a request, whatever its model is."""
    if options.refused:
        message = f"'{options.refused}' is not supported: leave it out"
        raise OptionNotSupportedError(message, options.refused)
    if len(sources) > 1:
        raise TooManyClipsError(f"the request has {len(sources)} files: send one", sources[1].param)


def check_transcription(options: TranscriptionOptions, served: Served) -> None:
    """Raise OptionError or OptionNotSupportedError for what the format does not have, or the model cannot give."""
    has_words = served.engine.manifest.ctc is not None
    if options.stream and options.response_format not in ("json", "text"):
        raise OptionError(f"'stream' sends text: {options.response_format} is made of the whole of it", "stream")
    if options.timestamp_granularities and options.response_format != "verbose_json":
        message = "'timestamp_granularities' are of verbose_json only: set 'response_format' to it"
        raise OptionError(message, "timestamp_granularities")
    if "word" in options.granularities and not has_words:
        message = "this model writes texts without the times of their words: ask for segment"
        raise OptionNotSupportedError(message, "timestamp_granularities")
    if options.keywords and not has_words:
        raise OptionNotSupportedError("'keywords' are not supported by this model: leave them out", "keywords")


@contextmanager
def in_their_words() -> Iterator[None]:
    """Speak of `keywords` where what is wrong with them is raised."""
    try:
        yield
    except OptionError as error:
        if error.param == "hotwords":
            raise OptionError(error.message.replace("hotwords", "keywords"), "keywords") from None
        raise


def check_translation(served: Served) -> None:
    """Raise TaskNotSupportedError for a model that writes down what it hears."""
    if served.text is None:
        message = f"model {served.engine.name!r} does not translate: it writes down what is said"
        raise TaskNotSupportedError(message, "model")


async def respond(
    speech: Speech,
    options: SpeechOptions,
    sources: Sequence[Source],
    task: Literal["transcribe", "translate"],
    parts: Collection[str] = ("segment",),
) -> Response:
    """Return the answer as a whole."""
    return await speech.transcribe(sources, lambda said: answer(said[0], options, task, parts))


def answer(said: Said, options: SpeechOptions, task: str, parts: Collection[str]) -> Response:
    """Return the answer."""
    headers = windows_header([said])
    document = DOCUMENTS.get(options.response_format)
    if document:
        return Response(document.write(said.transcript), media_type=document.media_type, headers=headers)
    if options.response_format == "json":
        content = openai.plain(said.transcript, said.duration)
    else:
        content = openai.verbose(
            said.transcript,
            said.duration,
            task=task,
            language=options.language,
            temperature=options.temperature,
            parts=parts,
        )
    return Response(to_json(content), media_type=JSON, headers=headers)


async def stream(speech: Speech, source: Source, emit: Emit) -> None:
    """Send the text word by word, as soon as it is found, and then the whole of it."""
    text: list[str] = []
    async with aclosing(speech.stream(source)) as deltas:
        async for delta in deltas:
            text.append(delta)
            await emit(b"".join(openai_event("delta", delta=word) for word in WORD.findall(delta)))
    await emit(openai_event("done", text="".join(text)))


def openai_event(kind: str, **content: str) -> bytes:
    """Return an event of a transcript."""
    return event(to_json({"type": f"transcript.text.{kind}", **content}))
