"""GET /health/live and /health/ready."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import Gauge

from server.process import Lifecycle
from server.routes.answers import LifecycleDep, ServiceDep
from server.schemas.answers import Health
from server.service import Service

router = APIRouter()

READY = Gauge("sonant_ready", "1 while /health/ready answers 200, else 0.")


def publish(service: Service, lifecycle: Lifecycle) -> bool:
    """Return whether requests are served, and bring the metric of that up to date."""
    is_ready = service.models.ready and not lifecycle.is_ending
    READY.set(is_ready)
    return is_ready


@router.get("/health/live", summary="Whether the process answers")
async def live() -> dict[str, str]:
    """Answer 200 as long as the event loop runs."""
    return {"status": "live"}


@router.get(
    "/health/ready",
    summary="Whether requests are served",
    responses={503: {"model": Health, "description": "A model is loading or failed, or the server is shutting down"}},
)
async def ready(service: ServiceDep, lifecycle: LifecycleDep, response: Response) -> Health:
    """Answer 200 when every model that was there at the start is verified, or was unloaded on purpose; else 503.

    It is not ready any more as soon as the server shuts down. What is loaded later is not waited for.
    """
    models = {model.name: model.state for model in service.models}
    if publish(service, lifecycle):
        return Health(status="ready", models=models)
    response.status_code = 503
    return Health(status="shutting_down" if lifecycle.is_ending else "not_ready", models=models)
