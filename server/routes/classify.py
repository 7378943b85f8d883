"""POST /v1/classify."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from fastapi import APIRouter, Request, Response

from server.kept import Kept
from server.metrics import stage
from server.routes.answers import AnswerDep, ServiceDep, TimingsDep, to_json, usage
from server.routes.documentation import responses, task_body
from server.routes.inputs import JSON, read_inputs
from server.schemas.answers import ClassifyAnswer
from server.schemas.options import ClassifyOptions
from server.service import ClipRow
from server.tasks.classify import Classify

router = APIRouter()


@router.post(
    "/v1/classify",
    summary="Audio -> labels",
    responses=responses(ClassifyAnswer),
    openapi_extra=task_body(ClassifyOptions),
)
async def classify(request: Request, service: ServiceDep, timings: TimingsDep, answer: AnswerDep) -> Response:
    """Classify each clip."""
    async with (
        read_inputs(request, ClassifyOptions, service) as inputs,
        service.models.lease(inputs.options.model, "classify") as served,
    ):
        request.state.model = served.engine.name
        task = Classify(served.engine.manifest, inputs.options)
        rows = await service.run(
            served,
            Kept(task.outputs),
            inputs.sources,
            timings,
            answer,
            deadline=inputs.deadline,
            windowed=task.windowed,
        )
        with stage(timings, "postprocess"):
            body = await service.offload(partial(render, served.engine.name, task, rows))
    return Response(body, media_type=JSON)


def render(model: str, task: Classify, rows: Sequence[ClipRow]) -> bytes:
    """Rank the labels of `rows` and return the answer's body."""
    data = [
        {
            "index": index,
            "labels": task.result(clip.windows),
            "duration": clip.duration,
            "windows": len(clip.windows),
        }
        for index, clip in enumerate(rows)
    ]
    return to_json({"model": model, "data": data, "usage": usage(rows)})
