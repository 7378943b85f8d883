"""What the answers of all tasks share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from fastapi import Depends, Request

from server.process import Lifecycle
from server.running import ClipRow
from server.service import Context, Service


def context(request: Request) -> Context:
    """Return the context of `request`. Not as dependencies, which FastAPI takes a tenth of a millisecond for."""
    service: Service = request.app.state.service
    state = request.state
    return Context(service, state.timings, state.until_sent.enter_context(service.answer()))


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _lifecycle(request: Request) -> Lifecycle:
    lifecycle: Lifecycle = request.app.state.lifecycle
    return lifecycle


# `async`: FastAPI would call a plain function in a thread.
ServiceDep = Annotated[Service, Depends(_service)]
LifecycleDep = Annotated[Lifecycle, Depends(_lifecycle)]


def usage(rows: Sequence[ClipRow]) -> dict[str, float]:
    """Return what `rows` cost."""
    return {"audio_seconds": sum(row.duration for row in rows)}


def to_json(content: dict[str, Any]) -> bytes:
    """Encode `content`, in which arrays must be C-contiguous."""
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
