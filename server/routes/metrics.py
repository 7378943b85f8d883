"""GET /metrics."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from server.routes import health
from server.routes.answers import LifecycleDep, ServiceDep

router = APIRouter()


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(service: ServiceDep, lifecycle: LifecycleDep) -> Response:
    """Answer with all metrics, as text. Always that: whatever `Accept` says, Prometheus reads it."""
    service.models.publish()
    health.publish(service, lifecycle)
    # In a thread: it takes milliseconds, and reads files of the kernel.
    return Response(await asyncio.to_thread(generate_latest), media_type=CONTENT_TYPE_PLAIN_0_0_4)
