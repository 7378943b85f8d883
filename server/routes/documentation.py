"""What OpenAPI says of the three bodies and of the errors, which FastAPI cannot see in the routes' signatures."""

from __future__ import annotations

from types import UnionType
from typing import Any

from pydantic import BaseModel

from server.formats.documents import DOCUMENTS
from server.http.body import BYTES, JSON, MULTIPART
from server.schemas.answers import ErrorAnswer
from server.schemas.options import Options

# The answers that are text, though what they are called does not say so.
TEXTS = {document.media_type for document in DOCUMENTS.values()}
TEXT, BINARY = {"type": "string"}, {"type": "string", "format": "binary"}

Schema = dict[str, Any]

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
NOT_ACCEPTABLE: dict[int | str, dict[str, Any]] = {
    406: {"model": ErrorAnswer, "description": "None of what `Accept` names can be given"}
}


def responses(answer: type[BaseModel] | UnionType, *media: str) -> dict[int | str, dict[str, Any]]:
    """Return the documented answers of a task: `answer` as JSON, other `media` as text or bytes, and the errors."""
    content = {name: {"schema": TEXT if name.startswith("text/") or name in TEXTS else BINARY} for name in media}
    return {200: {"model": answer, "content": content}, **ERRORS}


def task_body(schema: type[Options], *, several: bool = True) -> dict[str, Any]:
    """Return the OpenAPI operation fields for the bodies of a task with the options of `schema`.

    A request has one clip, or `several`.
    """
    options = schema.model_json_schema()["properties"]
    texts = {name: _without_null(option) for name, option in options.items()}
    encoded = {"type": "string", "contentEncoding": "base64"}
    file = {"type": "array", "items": BINARY, "description": "Audio files; repeat the field."} if several else BINARY
    list_of_clips = [{"type": "array", "items": encoded}] if several else []
    files = {"file": file}
    inputs = {"input": {"anyOf": [encoded, *list_of_clips], "description": "Audio, as base64."}}
    return {
        "parameters": [_parameter(name, option) for name, option in texts.items()],
        "requestBody": {
            "required": True,
            "description": "Audio that libsndfile reads: WAV, FLAC, OGG (Vorbis, Opus), MP3, AIFF. With a raw body the "
            "options are in the query.",
            "content": {
                MULTIPART: {"schema": {"type": "object", "required": ["file"], "properties": {**files, **texts}}},
                JSON: {"schema": {"type": "object", "required": ["input"], "properties": {**inputs, **options}}},
                "audio/*": {"schema": BINARY},
                BYTES: {"schema": BINARY},
            },
        },
    }


def _parameter(name: str, option: Schema) -> Schema:
    """Return an option in the query, for a raw body.

    Its default is said in words: what fills defaults in, as forms and generated clients do, would send the option twice
    with every other body.
    """
    default = option.get("default")
    text = option.get("description", "")
    return {
        "name": name,
        "in": "query",
        "required": False,
        "description": text if default is None else f"{text} Default: {str(default).lower()}.".strip(),
        "schema": {key: value for key, value in option.items() if key not in ("default", "description")},
    }


def _without_null(option: Schema) -> Schema:
    """Return the schema of an option in a form or a query, where there is no null: it is left out."""
    kinds = [kind for kind in option.get("anyOf", ()) if kind != {"type": "null"}]
    rest = {key: value for key, value in option.items() if key != "anyOf" and (key, value) != ("default", None)}
    if len(kinds) == 1:
        return {**kinds[0], **rest}
    return {"anyOf": kinds, **rest} if kinds else rest
