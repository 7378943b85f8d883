"""How an error is answered: the same envelope, whatever failed and wherever."""

from __future__ import annotations

from http import HTTPStatus

from prometheus_client import Counter
from starlette.responses import JSONResponse

from server.errors import ApiError, codes

ERRORS = Counter("sonant_errors_total", "Errors that were answered, by their code.", ["code"])
# A counter that begins with its first error hides that from a rate.
for _code in codes():
    ERRORS.labels(_code)


def envelope(error: ApiError) -> JSONResponse:
    """Return the answer for `error`."""
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if not headers and error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        # Of OpenAI's clients, which would send all of it twice more otherwise.
        headers["X-Should-Retry"] = "false"
    return error_response(error.status, error.message, error.type, error.code, error.param, headers)


def error_response(
    status: int, message: str, type_: str, code: str, param: str | None = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    """Return an answer with the error envelope, and count it."""
    ERRORS.labels(code).inc()
    content = {"error": {"message": message, "type": type_, "param": param, "code": code}}
    return JSONResponse(content, status, headers)
