"""POST /v1/classify."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from fastapi import Request, Response

from server.http.body import JSON
from server.metrics import stage
from server.routes.answers import context, to_json, usage
from server.routes.direct import direct_router
from server.routes.documentation import responses, task_body
from server.routes.inputs import read_inputs
from server.running import ClipRow
from server.schemas.answers import ClassifyAnswer
from server.schemas.options import ClassifyOptions
from server.tasks.classify import Classify, describe

router = direct_router()

# Of a label with its score in a time line: it, its name, and what both take in JSON.
LABEL_BYTES = 400


@router.post(
    "/v1/classify",
    summary="Audio -> labels",
    responses=responses(ClassifyAnswer),
    openapi_extra=task_body(ClassifyOptions),
)
async def classify(request: Request) -> Response:
    """Classify each clip."""
    asked = context(request)
    async with (
        read_inputs(request, ClassifyOptions, asked.service) as inputs,
        asked.service.models.lease(inputs.options.model, "classify") as served,
    ):
        request.state.model = served.engine.name
        task = Classify(served.engine.manifest, inputs.options, LABEL_BYTES)
        rows = await asked.service.run(served, task, inputs.sources, asked.timings, asked.answer, inputs.deadline)
        with stage(asked.timings, "postprocess"):
            size = task.kept.size(served.engine.manifest, (window.span for row in rows for window in row.windows))
            body = await asked.service.offload(partial(render, served.engine.name, task, rows), size)
    return Response(body, media_type=JSON)


def render(model: str, task: Classify, rows: Sequence[ClipRow]) -> bytes:
    """Rank the labels of `rows` and return the answer's body."""
    data = [{"index": index, **describe(task, clip.windows, clip.duration)} for index, clip in enumerate(rows)]
    return to_json({"model": model, "data": data, "usage": usage(rows)})
