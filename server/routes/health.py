"""GET /health/live and /health/ready."""

from __future__ import annotations

from fastapi import APIRouter, Response

from server.routes.answers import LifecycleDep, ServiceDep
from server.schemas.answers import Health

router = APIRouter()


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
    if service.models.ready and not lifecycle.is_ending:
        return Health(status="ready", models=models)
    response.status_code = 503
    return Health(status="shutting_down" if lifecycle.is_ending else "not_ready", models=models)
