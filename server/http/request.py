"""A request as a whole: its id and its timing, and its metrics and its line in the log when it ends."""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, get_args

from prometheus_client import Counter, Gauge, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engines.manifest import Task
from server.errors import ApiError
from server.http.closing import close_with
from server.http.envelope import envelope
from server.metrics import NONE, SECONDS_BUCKETS

logger = logging.getLogger(__name__)
access = logging.getLogger("server.access")

# What a client may choose as its request's id: nothing that could forge a header or a line of a log.
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# They are asked every few seconds for as long as the server runs.
QUIET = ("/health/", "/metrics")
# The task of each path that has one.
TASKS = {f"/v1/{task}": task for task in get_args(Task)} | {
    "/v1/stream": "stream",
    "/v1/audio/transcriptions": "transcribe",
    "/v1/audio/translations": "transcribe",
}
# The status of a request that nobody was left to answer, as nginx has it.
CLIENT_LEFT = 499

REQUESTS = Counter(
    "sonant_requests_total",
    f"Requests that ended, by status, and streams, by close code; {CLIENT_LEFT}: the client left before the answer.",
    ["task", "model", "status"],
)
IN_PROGRESS = Gauge("sonant_requests_in_progress", "Requests that are being received, waited for or answered.")
# Refusals take a millisecond: they would hide how long the answers take.
REQUEST_SECONDS = Histogram(
    "sonant_request_duration_seconds",
    "From the head of a task's request to the head of its answer, of those that succeeded.",
    ["task", "model"],
    buckets=SECONDS_BUCKETS,
)
STAGE_SECONDS = Histogram(
    "sonant_stage_duration_seconds",
    "The stages of the tasks' requests that succeeded: decode, queue, inference, postprocess.",
    ["stage", "model"],
    buckets=SECONDS_BUCKETS,
)
RECEIVED_BYTES = Counter("sonant_received_bytes_total", "Bytes of the bodies of requests.", ["task"])


class RequestContext:
    """Gives each answer X-Request-Id and Server-Timing, accounts for it, and turns what nobody caught into a 500.

    Handlers put seconds by stage into `request.state.timings`, and the name of a model that is there into
    `request.state.model`; a stream the seconds that it was given into `audio_seconds`. What stands in `until_sent` is
    given back at the end of the request, however it ends.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application inside."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        wished = Headers(scope=scope).get("x-request-id", "")
        request_id = wished if REQUEST_ID.fullmatch(wished) else uuid.uuid4().hex
        account = Account(scope, request_id)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "websocket.accept":
                account.is_open = True
                message.setdefault("headers", [])
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            elif message["type"] == "websocket.close":
                account.answer(message["code"])
            elif message["type"] in ("http.response.start", "websocket.http.response.start"):
                account.answer(message["status"])
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers["Server-Timing"] = account.server_timing()
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
            await asyncio.sleep(0)  # the loop sends what was written once it comes round: the answer before its account
        except Exception:
            logger.exception("request %s failed", request_id)
            error = ApiError("internal error; the server's log has it under the request id")
            if account.is_open:
                await close_with(send_with_headers, error)
            elif not account.answered:
                await envelope(error)(scope, receive, send_with_headers)
        finally:
            account.close()


@dataclass
class Account:
    """One request. What stands in `state` is filled by those that learn of it."""

    scope: Scope
    request_id: str
    started: float = field(default_factory=perf_counter)
    status: int = CLIENT_LEFT  # until an answer begins; of a stream, the code that it is closed with
    is_open: bool = False  # a stream
    seconds: float = 0.0  # to the head of the answer

    def __post_init__(self) -> None:
        self.state: dict[str, Any] = self.scope.setdefault("state", {})
        self.timings: dict[str, float] = {}  # seconds by stage
        self.until_sent = ExitStack()
        self.state.update(
            timings=self.timings,
            until_sent=self.until_sent,
            model=NONE,
            received_bytes=0,
            audio_seconds=None,
            key=None,
        )
        IN_PROGRESS.inc()

    @property
    def answered(self) -> bool:
        """Whether an answer has begun."""
        return self.status != CLIENT_LEFT

    def answer(self, status: int) -> None:
        """Note that the answer begins, or that a stream ends, with `status`."""
        self.status = status
        self.seconds = perf_counter() - self.started

    def server_timing(self) -> str:
        """Return the value of the header Server-Timing."""
        seconds = {**self.timings, "total": perf_counter() - self.started}
        return ", ".join(f"{stage};dur={1e3 * duration:.2f}" for stage, duration in seconds.items())

    def close(self) -> None:
        """Give back what it held, count the request and log it."""
        self.until_sent.close()
        IN_PROGRESS.dec()
        task, model = TASKS.get(self.scope["path"], NONE), self.state["model"]
        REQUESTS.labels(task, model, self.status).inc()
        RECEIVED_BYTES.labels(task).inc(self.state["received_bytes"])
        if self.status < 400 and task != NONE:
            REQUEST_SECONDS.labels(task, model).observe(self.seconds)
            for stage, seconds in self.timings.items():
                STAGE_SECONDS.labels(stage, model).observe(seconds)
        level = logging.DEBUG if self.scope["path"].startswith(QUIET) else logging.INFO
        if access.isEnabledFor(level):
            fields = self._fields(task, model)
            access.log(level, "%(method)s %(path)s %(status)d", fields, extra={"fields": fields})

    def _path(self) -> str:
        """Return the path as the route declares it: a client's own words stay out of the log."""
        return getattr(self.scope.get("route"), "path", None) or (
            self.scope["path"] if self.scope["path"] in TASKS else NONE
        )

    def _fields(self, task: str, model: str) -> dict[str, Any]:
        client = self.scope.get("client")
        return {
            "request_id": self.request_id,
            "method": self.scope.get("method", "WEBSOCKET"),
            "path": self._path(),
            "status": self.status,
            "task": task,
            "model": model,
            "seconds": round(perf_counter() - self.started, 6),
            **{f"{stage}_seconds": round(seconds, 6) for stage, seconds in self.timings.items()},
            "received_bytes": self.state["received_bytes"],
            "audio_seconds": self.state["audio_seconds"],
            "client": client[0] if client else None,
            "key": self.state["key"],
        }
