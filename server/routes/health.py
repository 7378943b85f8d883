"""GET /health/live and /health/ready."""

from __future__ import annotations

from fastapi import APIRouter, Response

from server.routes.answers import ServiceDep
from server.schemas.answers import Health

router = APIRouter()


@router.get("/health/live", summary="Whether the process answers")
async def live() -> dict[str, str]:
    """Answer 200 as long as the event loop runs."""
    return {"status": "live"}


@router.get(
    "/health/ready",
    summary="Whether every model is served",
    responses={503: {"model": Health, "description": "A model is loading, or failed"}},
)
async def ready(service: ServiceDep, response: Response) -> Health:
    """Answer 200 when every model is loaded and verified, else 503 with the state of each."""
    is_ready = service.models.ready
    response.status_code = 200 if is_ready else 503
    return Health(
        status="ready" if is_ready else "not_ready", models={model.name: model.state for model in service.models}
    )
