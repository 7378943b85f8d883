"""GET /v1/models and /v1/models/{name}; POST /v1/models/{name}/load and /v1/models/{name}/unload."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Depends, Query

from engines.manifest import Manifest, Task
from server.models import forms
from server.models.model import Model
from server.routes.answers import ServiceDep
from server.routes.deadlines import deadline_of, in_time
from server.routes.documentation import ERRORS
from server.schemas.answers import GenerationItem, ModelItem, ModelList
from server.service import Service
from server.settings import Settings
from server.tasks.plan import default_search

router = APIRouter()


async def _deadline(
    service: ServiceDep,
    seconds: Annotated[
        float | None,
        Query(
            alias="timeout",
            gt=0,
            allow_inf_nan=False,
            description="Seconds within which the answer is wanted; after that it is 504, and what was asked for goes "
            "on. The default is the server's ceiling.",
        ),
    ] = None,
) -> float:
    ceiling = service.settings.max_timeout
    return deadline_of(seconds, ceiling, ceiling)


DeadlineDep = Annotated[float, Depends(_deadline)]
# Nothing is lost with the answer: loading a model again, or unloading it, waits for what goes on and answers.
LATE: dict[int | str, dict[str, Any]] = {
    504: {**ERRORS[504], "description": "Not done within `timeout`: it goes on, and the model's state tells"}
}


@router.get("/v1/models", summary="All models", response_model_exclude_unset=True)
async def list_models(service: ServiceDep) -> ModelList:
    """List what stands in the models folder, also what failed to load."""
    return ModelList(object="list", data=[describe(model, service) for model in service.models])


@router.get("/v1/models/{name}", summary="One model", response_model_exclude_unset=True, responses={404: ERRORS[404]})
async def get_model(name: str, service: ServiceDep) -> ModelItem:
    """Describe one model."""
    return describe(service.models.find(name), service)


@router.post(
    "/v1/models/{name}/load",
    summary="Load a model, or its newest version",
    response_model_exclude_unset=True,
    responses={404: ERRORS[404], 422: {**ERRORS[422], "description": "The engine is not what it must be"}, **LATE},
)
async def load_model(name: str, service: ServiceDep, deadline: DeadlineDep) -> ModelItem:
    """Look into the models folder, and serve the newest version of what is called `name` there; answer when it is.

    It takes the place of what is served only once it is verified, and no request fails: those that came before are
    finished by the engine that they began with. Where it does not reproduce its golden clips, or is not complete, what
    is served is served on. Nothing is done where the newest version is served already.
    """
    async with in_time(deadline):
        return describe(await service.models.load(name), service)


@router.post(
    "/v1/models/{name}/unload",
    summary="Unload a model",
    response_model_exclude_unset=True,
    responses={404: ERRORS[404], **LATE},
)
async def unload_model(name: str, service: ServiceDep, deadline: DeadlineDep) -> ModelItem:
    """Serve the model no more; answer when what was admitted is finished and its memory is given back.

    It stays in the list, and the default of its tasks: requests for it are refused with 503 until it is loaded again.
    """
    async with in_time(deadline):
        return describe(await service.models.unload(name), service)


def describe(model: Model, service: Service) -> ModelItem:
    """Return what a client needs to know of `model`."""
    default_for = [task for task in get_args(Task) if service.models.default_for(task) == model.name]
    item = ModelItem(
        id=model.name,
        object="model",
        created=int(model.found),
        owned_by="sonant",
        version=model.version,
        state=model.state,
        error=model.error,
        default_for=default_for,
    )
    if model.engine is None:
        return item
    manifest = model.engine.manifest
    known = item.model_copy(
        update={
            "tasks": list(manifest.tasks),
            "family": manifest.family,
            "checkpoint": manifest.checkpoint.source,
            "revision": manifest.checkpoint.revision,
            "license": manifest.checkpoint.license,
            "parameters": manifest.parameters,
            "file_bytes": model.served.file_bytes if model.served else 0,
            "calibration": model.served.calibration if model.served else None,
            "sample_rate": manifest.sample_rate,
            "min_seconds": manifest.seconds[0],
            "max_seconds": manifest.seconds[1],
            "hidden_size": manifest.hidden_size,
            "hidden_states": list(manifest.hidden_states),
            "forms": forms.describe(model.engine, model.served, service.settings.models),
            "parity": {
                graph: {check.output: check.error for check in checks}
                for graph, checks in model.engine.checks.copy().items()
            },
        }
    )
    return known.model_copy(update=dict(particular(manifest, service.settings)))


def particular(manifest: Manifest, settings: Settings) -> Iterator[tuple[str, object]]:
    """Yield what only some models have."""
    if manifest.classification is not None:
        yield "labels", list(manifest.classification.labels)
    if manifest.generation is not None:
        yield "languages", sorted(manifest.generation.languages)
        search = default_search(manifest.generation, settings)
        yield "generation", GenerationItem(max_tokens=search.max_length - 1, beams=search.num_beams)
    if manifest.variant is not None:
        yield "variant", manifest.variant
        yield "variant_difference", manifest.variant_difference
