"""POST /v1/transcribe."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from fastapi import Request, Response

from server.errors import OptionError
from server.formats.documents import DOCUMENTS
from server.http.body import JSON
from server.routes.answers import context, to_json
from server.routes.direct import direct_router
from server.routes.documentation import responses, task_body
from server.routes.inputs import read_inputs
from server.schemas.answers import TranscribeAnswer
from server.schemas.options import TranscribeOptions
from server.speech import Said, Speech, describe

router = direct_router()


@router.post(
    "/v1/transcribe",
    summary="Audio -> text",
    responses=responses(TranscribeAnswer, *(document.media_type for document in DOCUMENTS.values())),
    openapi_extra=task_body(TranscribeOptions),
)
async def transcribe(request: Request) -> Response:
    """Transcribe each clip. Formats other than JSON have the number of windows of each in the header X-Windows."""
    asked = context(request)
    async with (
        read_inputs(request, TranscribeOptions, asked.service) as inputs,
        asked.service.models.lease(inputs.options.model, "transcribe") as served,
    ):
        request.state.model = served.engine.name
        options = inputs.options
        check_format(options.response_format, len(inputs.sources))
        speech = Speech(asked, served, options, inputs.deadline)
        return await speech.transcribe(inputs.sources, partial(answer, served.engine.name, options))


def check_format(response_format: str, clips: int) -> None:
    """Raise OptionError where the format cannot have so many clips."""
    document = DOCUMENTS.get(response_format)
    if clips > 1 and document and not document.joins:
        message = f"{response_format} has the times of one clip: send one in a request, or ask for verbose_json"
        raise OptionError(message, "response_format")


def answer(model: str, options: TranscribeOptions, clips: Sequence[Said]) -> Response:
    """Return the answer."""
    document = DOCUMENTS.get(options.response_format)
    if document:
        text = "".join(document.write(said.transcript) for said in clips)
        return Response(text, media_type=document.media_type, headers=windows_header(clips))
    data = [{"index": index, **describe(said, options)} for index, said in enumerate(clips)]
    seconds = sum(said.duration for said in clips)
    content = {
        "model": model,
        "data": data,
        "text": clips[0].transcript.text,
        "usage": {"audio_seconds": seconds},
    }
    return Response(to_json(content), media_type=JSON)


def windows_header(clips: Sequence[Said]) -> dict[str, str]:
    """Return the header that says into how many windows each of `clips` was cut."""
    return {"X-Windows": ",".join(str(said.windows) for said in clips)}
