"""The ASGI application, and the process that serves it."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse

from server.errors import INVALID_REQUEST, ApiError, OptionError, envelope, error_response
from server.middleware import BodyGuard, RequestContext
from server.routes import classify, encode, health, models, transcribe
from server.service import Service
from server.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """Return the application; its engines load once it runs, in the background.

    Raises EngineNotFoundError if the models folder does not exist, ValueError for an impossible default.
    """
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(service.models.load())
        yield
        loading.cancel()
        with suppress(asyncio.CancelledError):
            await loading
        await service.close()

    app = FastAPI(title="Sonant", summary="Audio encoders as exact, self-verifying engines", lifespan=lifespan)
    app.state.service = service
    # The last one added is the outermost: also what the guard answers has an id.
    app.add_middleware(BodyGuard, max_bytes=settings.max_body_bytes, timeout=settings.body_timeout)
    app.add_middleware(RequestContext)
    for kind in (ApiError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _answer)
    for module in (encode, transcribe, classify, models, health):
        app.include_router(module.router)
    app.add_api_route("/", _root, include_in_schema=False)
    return app


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; what was admitted is finished. Raises as create_app does."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s:     %(name)s: %(message)s")
    # It warns of each byte of a body that is not multipart: a client could fill the log.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    # uvicorn shuts down on SIGTERM and then raises it again: the status says that all went well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    app = create_app(settings)
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )


async def _root() -> Response:
    return RedirectResponse("/docs")


async def _answer(request: Request, error: Exception) -> Response:
    """Put what was raised into the error envelope; also what the framework refuses, such as an unknown path."""
    if isinstance(error, ApiError):
        return envelope(error)
    if isinstance(error, HTTPException):
        code = HTTPStatus(error.status_code).name.lower()
        return error_response(error.status_code, error.detail, INVALID_REQUEST, code, headers=dict(error.headers or {}))
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        return envelope(OptionError(first["msg"], str(first["loc"][-1])))
    raise error
