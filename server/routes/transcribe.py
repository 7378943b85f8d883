"""POST /v1/transcribe."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from fastapi import APIRouter, Request, Response

from server.routes.answers import ServiceDep, TimingsDep, to_json, usage
from server.routes.documentation import responses, task_body
from server.routes.inputs import JSON, read_inputs
from server.schemas import TranscribeAnswer, TranscribeOptions
from server.service import ClipRow
from server.tasks.transcribe import Transcribe

router = APIRouter()

TEXT = "text/plain"


@router.post(
    "/v1/transcribe",
    summary="Audio -> text",
    responses=responses(TranscribeAnswer, TEXT),
    openapi_extra=task_body(TranscribeOptions),
)
async def transcribe(request: Request, service: ServiceDep, timings: TimingsDep) -> Response:
    """Transcribe each clip."""
    async with read_inputs(request, TranscribeOptions, service) as inputs:
        served = service.models.resolve(inputs.options.model, "transcribe")
        task = Transcribe(served.engine.manifest, inputs.options)
        rows = await service.run(served, task.outputs, inputs.sources, timings)
        as_text = inputs.options.response_format == "text"
        body = await service.offload(partial(render, as_text, served.engine.name, task, rows))
    return Response(body, media_type=TEXT if as_text else JSON)


def render(as_text: bool, model: str, task: Transcribe, rows: Sequence[ClipRow]) -> bytes:
    """Decode `rows` and return the answer's body."""
    transcripts = [task.result(clip.row) for clip in rows]
    if as_text:
        return "".join(f"{transcript.text}\n" for transcript in transcripts).encode()
    data = [
        {"index": index, "text": one.text, "confidence": one.confidence, "duration": clip.duration}
        for index, (one, clip) in enumerate(zip(transcripts, rows, strict=True))
    ]
    return to_json({"model": model, "data": data, "text": transcripts[0].text, "usage": usage(rows)})
