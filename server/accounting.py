"""What is kept of each request when it ends: its metrics, and its line in the log."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from starlette.types import Scope

from server.metrics import (
    CLIENT_LEFT,
    IN_PROGRESS,
    NONE,
    RECEIVED_BYTES,
    REQUEST_SECONDS,
    REQUESTS,
    STAGE_SECONDS,
    TASKS,
)

logger = logging.getLogger("server.access")

# They are asked every few seconds for as long as the server runs.
QUIET = ("/health/", "/metrics")


@dataclass
class Account:
    """One request. What stands in `state` is filled by those that learn of it."""

    scope: Scope
    request_id: str
    started: float = field(default_factory=perf_counter)
    status: int = CLIENT_LEFT  # until an answer begins
    seconds: float = 0.0  # to the head of the answer

    def __post_init__(self) -> None:
        self.state: dict[str, Any] = self.scope.setdefault("state", {})
        self.timings: dict[str, float] = {}  # seconds by stage
        self.state.update(timings=self.timings, model=NONE, received_bytes=0, key=None)
        IN_PROGRESS.inc()

    @property
    def answered(self) -> bool:
        """Whether an answer has begun."""
        return self.status != CLIENT_LEFT

    def answer(self, status: int) -> None:
        """Note that the answer begins, with `status`."""
        self.status = status
        self.seconds = perf_counter() - self.started

    def server_timing(self) -> str:
        """Return the value of the header Server-Timing."""
        seconds = {**self.timings, "total": perf_counter() - self.started}
        return ", ".join(f"{stage};dur={1e3 * duration:.2f}" for stage, duration in seconds.items())

    def close(self) -> None:
        """Count the request and log it."""
        IN_PROGRESS.dec()
        task, model = TASKS.get(self.scope["path"], NONE), self.state["model"]
        REQUESTS.labels(task, model, self.status).inc()
        RECEIVED_BYTES.labels(task).inc(self.state["received_bytes"])
        if self.status < 400 and task != NONE:
            REQUEST_SECONDS.labels(task, model).observe(self.seconds)
            for stage, seconds in self.timings.items():
                STAGE_SECONDS.labels(stage, model).observe(seconds)
        level = logging.DEBUG if self.scope["path"].startswith(QUIET) else logging.INFO
        if logger.isEnabledFor(level):
            fields = self._fields(task, model)
            logger.log(level, "%(method)s %(path)s %(status)d", fields, extra={"fields": fields})

    def _path(self) -> str:
        """Return the path as the route declares it: a client's own words stay out of the log."""
        return getattr(self.scope.get("route"), "path", None) or (
            self.scope["path"] if self.scope["path"] in TASKS else NONE
        )

    def _fields(self, task: str, model: str) -> dict[str, Any]:
        client = self.scope.get("client")
        return {
            "request_id": self.request_id,
            "method": self.scope["method"],
            "path": self._path(),
            "status": self.status,
            "task": task,
            "model": model,
            "seconds": round(perf_counter() - self.started, 6),
            **{f"{stage}_seconds": round(seconds, 6) for stage, seconds in self.timings.items()},
            "received_bytes": self.state["received_bytes"],
            "client": client[0] if client else None,
            "key": self.state["key"],
        }
