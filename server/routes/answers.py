"""What the answers of all tasks share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

import orjson
from fastapi import Depends, Request

from server.memory import Hold
from server.process import Lifecycle
from server.service import ClipRow, Service


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _lifecycle(request: Request) -> Lifecycle:
    lifecycle: Lifecycle = request.app.state.lifecycle
    return lifecycle


async def _timings(request: Request) -> dict[str, float]:
    timings: dict[str, float] = request.state.timings
    return timings


async def _answer(request: Request) -> AsyncIterator[Hold]:
    service: Service = request.app.state.service
    with service.answer() as hold:
        yield hold


# `async`: FastAPI would call a plain function in a thread.
ServiceDep = Annotated[Service, Depends(_service)]
LifecycleDep = Annotated[Lifecycle, Depends(_lifecycle)]
# Seconds by stage, which the middleware writes into the Server-Timing header.
TimingsDep = Annotated[dict[str, float], Depends(_timings)]
# What the answer takes: FastAPI ends this when it is sent.
AnswerDep = Annotated[Hold, Depends(_answer)]


def usage(rows: Sequence[ClipRow]) -> dict[str, float]:
    """Return what `rows` cost."""
    return {"audio_seconds": sum(row.duration for row in rows)}


def to_json(content: dict[str, Any]) -> bytes:
    """Encode `content`, in which arrays must be C-contiguous."""
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
