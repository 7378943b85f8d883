"""What OpenAPI says of the three bodies and of the errors, which FastAPI cannot see in the routes' signatures."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from server.routes.inputs import BYTES, JSON, MULTIPART
from server.schemas.answers import ErrorAnswer
from server.schemas.options import Options

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": description}
    for status, description in {
        400: "The audio or the body cannot be used, or the model does not serve the task",
        401: "The server has keys, and the request none of them; see WWW-Authenticate",
        403: "The key does not open this",
        404: "No such model",
        408: "The body did not arrive in time",
        413: "Too many bytes, seconds or clips",
        415: "Content type is not read",
        422: "Invalid option",
        429: "The queue or the memory is full; see Retry-After",
        503: "The model is not ready; see Retry-After",
        504: "Not done within `timeout`",
        507: "The server cannot store the uploaded files",
    }.items()
}


def responses(answer: type[BaseModel], *media: str) -> dict[int | str, dict[str, Any]]:
    """Return the documented answers of a task: `answer` as JSON, other `media` as bytes, and the errors."""
    content = {name: {"schema": {"type": "string", "format": "binary"}} for name in media}
    return {200: {"model": answer, "content": content}, **ERRORS}


def task_body(schema: type[Options]) -> dict[str, Any]:
    """Return the OpenAPI operation fields for the bodies of a task with the options of `schema`."""
    options = schema.model_json_schema()["properties"]
    binary = {"type": "string", "format": "binary"}
    encoded = {"type": "string", "contentEncoding": "base64"}
    files = {"file": {"type": "array", "items": binary, "description": "Audio files; repeat the field."}}
    inputs = {"input": {"anyOf": [encoded, {"type": "array", "items": encoded}], "description": "Audio, as base64."}}
    query = [{"name": name, "in": "query", "required": False, "schema": option} for name, option in options.items()]
    return {
        "parameters": query,
        "requestBody": {
            "required": True,
            "description": "Audio that libsndfile reads: WAV, FLAC, OGG (Vorbis, Opus), MP3, AIFF. With a raw body the "
            "options are in the query.",
            "content": {
                MULTIPART: {"schema": {"type": "object", "required": ["file"], "properties": {**files, **options}}},
                JSON: {"schema": {"type": "object", "required": ["input"], "properties": {**inputs, **options}}},
                "audio/*": {"schema": binary},
                BYTES: {"schema": binary},
            },
        },
    }
