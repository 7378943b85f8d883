"""POST /v1/encode."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray
from safetensors.numpy import save as save_safetensors

from server.errors import NotAcceptableError, OptionError
from server.kept import FLOAT32_BYTES
from server.metrics import stage
from server.routes.answers import AnswerDep, ServiceDep, TimingsDep, to_json, usage
from server.routes.documentation import responses, task_body
from server.routes.inputs import JSON, read_inputs
from server.schemas.answers import EncodeAnswer
from server.schemas.options import EncodeOptions
from server.service import ClipRow
from server.tasks.encode import Encode, Encoding

router = APIRouter()

# Of a float32 in JSON: some 10 with its comma, twice while the pieces are put together.
FLOAT_CHARACTERS = 20
# Values that are made JSON at a time, in which no other thread runs: some milliseconds.
PIECE_VALUES = 1 << 17

NPY, SAFETENSORS = "application/x-npy", "application/vnd.safetensors"


@router.post(
    "/v1/encode",
    summary="Audio -> embeddings or hidden states",
    responses=responses(EncodeAnswer, NPY, SAFETENSORS),
    openapi_extra=task_body(EncodeOptions),
)
async def encode(request: Request, service: ServiceDep, timings: TimingsDep, answer: AnswerDep) -> Response:
    """Encode each clip; `Accept` chooses JSON, application/x-npy (one array) or application/vnd.safetensors.

    The other two than JSON have the number of windows of each clip in the header X-Windows.
    """
    media = negotiate(request.headers.get("accept", "*/*"))
    async with (
        read_inputs(request, EncodeOptions, service) as inputs,
        service.models.lease(inputs.options.model, "encode") as served,
    ):
        request.state.model = served.engine.name
        options = inputs.options
        check_media(media, options, len(inputs.sources))
        task = Encode(served.engine.manifest, options)
        rows = await service.run(
            served,
            task.kept(value_bytes(media, options)),
            inputs.sources,
            timings,
            answer,
            deadline=inputs.deadline,
            windowed=task.windowed,
            reduce=task.reduce,
        )
        with stage(timings, "postprocess"):
            body = await service.offload(partial(render, media, served.engine.name, task, options, rows))
    windows = {} if media == JSON else {"X-Windows": ",".join(str(len(clip.windows)) for clip in rows)}
    return Response(body, media_type=media, headers=windows)


def negotiate(accept: str) -> str:
    """Return the first media type of `accept` that can be given; raises NotAcceptableError."""
    for item in accept.split(","):
        media = item.partition(";")[0].strip().lower()
        if media in (JSON, NPY, SAFETENSORS):
            return media
        if media in ("", "*/*", "application/*"):
            return JSON
    raise NotAcceptableError(f"the answer can be {JSON}, {NPY} or {SAFETENSORS}", "Accept")


def check_media(media: str, options: EncodeOptions, clips: int) -> None:
    """Raise where `media` cannot hold what is asked for, or `options` speak of another."""
    if media == NPY and clips * max(1, len(options.layers)) > 1:
        raise NotAcceptableError(f"{NPY} holds one array: ask for one clip and one layer, or {SAFETENSORS}", "Accept")
    if media != JSON and "encoding_format" in options.model_fields_set:
        raise OptionError(f"encoding_format is of {JSON} only, not of {media}", "encoding_format")


def value_bytes(media: str, options: EncodeOptions) -> float:
    """Return about what one value takes in the answer."""
    if media != JSON:
        return FLOAT32_BYTES
    return FLOAT32_BYTES * 4 / 3 if options.encoding_format == "base64" else FLOAT_CHARACTERS


def render(media: str, model: str, task: Encode, options: EncodeOptions, rows: Sequence[ClipRow]) -> bytes:
    """Make the task's results of `rows` and encode them as `media`."""
    results = [task.result(clip.windows) for clip in rows]
    if media == NPY:
        file = io.BytesIO()
        np.save(file, results[0][0].array)
        return file.getvalue()
    if media == SAFETENSORS:
        return save_safetensors(
            {tensor_name(index, one): _contiguous(one.array) for index, clip in enumerate(results) for one in clip}
        )
    data = [
        item(index, one, clip, options)
        for index, (clip, encodings) in enumerate(zip(rows, results, strict=True))
        for one in encodings
    ]
    return to_json({"object": "list", "model": model, "data": data, "usage": usage(rows)})


def tensor_name(index: int, encoding: Encoding) -> str:
    """Return "0" for clip 0, "0.layer6" for its hidden state 6."""
    return str(index) if encoding.layer is None else f"{index}.layer{encoding.layer}"


def item(index: int, encoding: Encoding, clip: ClipRow, options: EncodeOptions) -> dict[str, Any]:
    """Return one entry of `data`."""
    array = _contiguous(encoding.array)
    return {
        "object": "embedding",
        "index": index,
        **({} if encoding.layer is None else {"layer": encoding.layer}),
        "embedding": base64.b64encode(array.data).decode() if options.encoding_format == "base64" else floats(array),
        "shape": array.shape,
        "frame_rate": encoding.frame_rate_hz,
        "duration": clip.duration,
        "windows": len(clip.windows),
    }


def floats(array: NDArray[np.float32]) -> orjson.Fragment:
    """Return C-contiguous `array` as JSON, made piece by piece."""
    rows = max(1, PIECE_VALUES // array[0].size)
    pieces = (
        orjson.dumps(array[start : start + rows], option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
        for start in range(0, array.shape[0], rows)
    )
    return orjson.Fragment(b"[" + b",".join(pieces) + b"]")


def _contiguous(array: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, "<f4")
