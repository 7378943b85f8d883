"""The document of the interface, at /openapi.json, and the pages that show it, at /docs and /redoc.

The pages bring their scripts along: no other host is asked. The examples in examples.json are what a server with the
demo's engines answered; `python -m tests.server.examples` writes it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline

from server.http.body import JSON
from server.http.keys import DOCUMENT_FILES, area_of
from server.routes.documentation import ERRORS

EXAMPLES = Path(__file__).parent / "examples.json"
DESCRIPTION = """\
Audio goes in as multipart `file`, as the body itself, or as base64 `input` in JSON; the options have the same names in
the form, the query and the JSON. One that cannot be honoured is refused, never ignored.

Every error is `{"error": {"message", "type", "param", "code"}}`. 429 and most 503 come with `Retry-After`. Where the
server has keys, send one as `Authorization: Bearer KEY` or `X-API-Key: KEY`.

`/v1/stream` is a WebSocket, of which OpenAPI cannot speak: docs/streaming.md has its messages.
"""
# By the longest beginning of the path; shown in this order.
TAGS = {
    "/v1/": ("Tasks", "Audio in; text, labels or embeddings out."),
    "/v1/audio/": ("OpenAI", "For clients that were written for OpenAI's interface."),
    "/v1/models": ("Models", "What is served."),
    "/": ("Operation", "For supervisors and monitoring."),
}
# A key is optional: it depends on the server whether it has any.
SECURITY: list[dict[str, list[str]]] = [{}, {"Bearer": []}, {"Key": []}]
SECURITY_SCHEMES = {
    "Bearer": {"type": "http", "scheme": "bearer", "description": "A key, where the server has any."},
    "Key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key, in another header."},
}

Document = dict[str, Any]


def create(lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]]) -> FastAPI:
    """Return an application without routes."""
    return FastAPIOffline(
        static_url=DOCUMENT_FILES,
        title="Sonant",
        summary="Audio encoders as exact, self-verifying engines",
        description=DESCRIPTION,
        version=version("sonant"),
        openapi_tags=[{"name": name, "description": text} for name, text in TAGS.values()],
        generate_unique_id_function=_operation_id,
        lifespan=lifespan,
    )


def complete(app: FastAPI) -> None:
    """Make the document of `app`, whose routes are all there.

    It takes a tenth of a second: before the first request rather than in it. FastAPI keeps it.
    """
    document = app.openapi()
    examples = orjson.loads(EXAMPLES.read_bytes())
    components = document["components"]
    components["securitySchemes"] = SECURITY_SCHEMES
    components["examples"] = examples["shared"]
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if area_of(method.upper(), path) != "public":
                _document_keys(operation)
            operation["tags"] = [_tag(path)]
            _document_errors(operation)
            _add_examples(operation, examples["operations"].get(operation["operationId"], {}))


def _operation_id(route: APIRoute) -> str:
    return route.name


def _tag(path: str) -> str:
    name, _ = TAGS[max((start for start in TAGS if path.startswith(start)), key=len)]
    return name


def _document_keys(operation: Document) -> None:
    """Add that a key may be asked for, and be wrong."""
    operation["security"] = SECURITY
    operation["responses"] |= {status: {"description": ERRORS[int(status)]["description"]} for status in ("401", "403")}


def _document_errors(operation: Document) -> None:
    """Give errors their form, also in place of FastAPI's own of a refused option, which nobody gets."""
    responses = operation["responses"]
    for status in ("401", "403", "422"):
        if status in responses:
            responses[status]["content"] = {JSON: {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}


def _add_examples(operation: Document, examples: Document) -> None:
    """Add `examples`, by part (`requestBody`, or a status), media type and name, wherever there is a place for them."""
    parts = {"requestBody": operation.get("requestBody", {}), **operation["responses"]}
    for part, body in parts.items():
        for media, content in body.get("content", {}).items():
            if named := examples.get(part, {}).get(media):
                content["examples"] = named
