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
from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import RedirectResponse

from engines import host
from server import logs, openapi
from server.errors import INVALID_REQUEST, ApiError, OptionError
from server.http import websocket
from server.http.admission import Admission
from server.http.body import BodyGuard, BodyLimits
from server.http.connection import guarded
from server.http.envelope import envelope, error_response
from server.http.keys import CORS_ANSWER_HEADERS, CORS_REQUEST_HEADERS, Authentication, warn_if_open
from server.http.request import RequestContext
from server.process import Lifecycle, Process, allow_descriptors, keep_what_is_there, leave, switch_often
from server.routes import classify, encode, health, metrics, models, openai, stream, transcribe
from server.service import Service
from server.settings import Settings, passed_over

logger = logging.getLogger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """Return the application; its engines load once it runs, in the background.

    Raises EngineNotFoundError if the models folder does not exist, ValueError for an impossible default.
    """
    lifecycle = Lifecycle()
    service = Service(settings, lambda name, seconds: lifecycle.on_hung(name, seconds))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(service.models.run())
        yield
        loading.cancel()
        with suppress(asyncio.CancelledError):
            await loading
        await service.close()

    app = openapi.create(lifespan)
    app.state.service = service
    app.state.lifecycle = lifecycle
    # The last one added is the outermost: also what the guard answers has an id. Keys are checked inside it, so that it
    # deals with the body that is left.
    app.add_middleware(Authentication, settings=settings)
    app.add_middleware(
        BodyGuard,
        limits=BodyLimits.of(settings),
        disk=service.spool.account,
    )
    app.add_middleware(Admission, lifecycle=lifecycle)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST"),
            allow_headers=CORS_REQUEST_HEADERS,
            expose_headers=CORS_ANSWER_HEADERS,
        )
    app.add_middleware(RequestContext)
    for kind in (ApiError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _answer)
    for module in (encode, transcribe, classify, openai, stream, health, models, metrics):  # they are tried in turn
        app.include_router(module.router)
    app.add_api_route("/", _root, include_in_schema=False)
    app.add_api_websocket_route("/{path:path}", _no_stream)
    openapi.complete(app)
    return app


def run(settings: Settings) -> None:
    """Serve until a signal, then finish what was admitted and end the process. Raises as create_app does."""
    host.keep_little()
    allow_descriptors()
    switch_often()
    logs.configure(settings.log_format, settings.log_level)
    warn_if_open(settings)
    if names := passed_over():
        logger.info("these variables are about a service, and no settings: %s", ", ".join(names))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until the process takes over
    app = create_app(settings)
    keep_what_is_there()
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=guarded(settings),
        ws=websocket.guarded(settings),
        ws_max_size=websocket.MAX_MESSAGE_BYTES,
        ws_ping_interval=None,
        ws_per_message_deflate=False,  # samples hardly shrink
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
    )
    process = Process(config, app.state.lifecycle, settings.shutdown_seconds)
    try:
        process.run()
    except SystemExit as stop:  # such as an address that is in use
        leave(int(stop.code or 0))


async def _root() -> Response:
    return RedirectResponse("/docs")


async def _no_stream(socket: WebSocket) -> None:
    """Answer as where there is no such path: the framework would answer 403 without a word."""
    await socket.send_denial_response(error_response(404, "Not Found", INVALID_REQUEST, "not_found"))


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
