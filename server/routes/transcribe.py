"""POST /v1/transcribe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from server.decoding.ctc import Transcript
from server.kept import Kept
from server.metrics import stage
from server.routes.answers import AnswerDep, ServiceDep, TimingsDep, to_json
from server.routes.documentation import responses, task_body
from server.routes.inputs import JSON, read_inputs
from server.schemas.answers import TranscribeAnswer
from server.schemas.options import TranscribeOptions
from server.service import ClipRow, ClipText
from server.tasks.transcribe import Transcribe, Write

router = APIRouter()

TEXT = "text/plain"

Item = dict[str, Any]


@router.post(
    "/v1/transcribe",
    summary="Audio -> text",
    responses=responses(TranscribeAnswer, TEXT),
    openapi_extra=task_body(TranscribeOptions),
)
async def transcribe(request: Request, service: ServiceDep, timings: TimingsDep, answer: AnswerDep) -> Response:
    """Transcribe each clip."""
    async with (
        read_inputs(request, TranscribeOptions, service) as inputs,
        service.models.lease(inputs.options.model, "transcribe") as served,
    ):
        request.state.model = served.engine.name
        options = inputs.options
        manifest = served.engine.manifest
        if manifest.generation and served.text:
            writing = Write(manifest.generation, served.text, options, service.settings)
            texts = await service.generate(served, writing.plan, inputs.sources, timings, deadline=inputs.deadline)
            make = partial(written, options, writing, texts)
        else:
            task = Transcribe(manifest, options)
            kept = Kept(task.outputs)
            rows = await service.run(served, kept, inputs.sources, timings, answer, deadline=inputs.deadline)
            make = partial(labelled, task, rows)
        as_text = options.response_format == "text"
        with stage(timings, "postprocess"):
            body = await service.offload(partial(render, as_text, served.engine.name, make))
    return Response(body, media_type=TEXT if as_text else JSON)


def labelled(task: Transcribe, rows: Sequence[ClipRow]) -> list[Item]:
    """Decode `rows`."""
    return [_item(task.result(clip.row), clip.duration) for clip in rows]


def written(options: TranscribeOptions, task: Write, texts: Sequence[ClipText]) -> list[Item]:
    """Decode what was written, with the alternatives that `options` ask for."""
    items = []
    for clip in texts:
        found = task.result(clip.hypotheses[: options.alternatives or 1])
        item = _item(found[0], clip.duration) | {"tokens": found[0].tokens}
        if options.language:
            item["language"] = options.language
        if options.alternatives:
            item["alternatives"] = [
                {"text": one.text, "confidence": one.confidence, "score": one.score} for one in found
            ]
        items.append(item)
    return items


def render(as_text: bool, model: str, make: Callable[[], list[Item]]) -> bytes:
    """Return the answer's body."""
    items = make()
    if as_text:
        return "".join(f"{' '.join(item['text'].splitlines())}\n" for item in items).encode()
    data = [{"index": index, **item} for index, item in enumerate(items)]
    seconds = sum(item["duration"] for item in items)
    return to_json({"model": model, "data": data, "text": data[0]["text"], "usage": {"audio_seconds": seconds}})


def _item(transcript: Transcript, duration: float) -> Item:
    return {"text": transcript.text, "confidence": transcript.confidence, "duration": duration}
