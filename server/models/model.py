"""One model: where it is between the disk and the memory, and who uses it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, get_args

from prometheus_client import Counter, Gauge

from engines.engine import Engine
from engines.manifest import Task
from engines.repository import FileStates
from server.calibration import Calibration
from server.decoding.text import TextDecoder
from server.scheduling.scheduler import Scheduler

State = Literal["loading", "ready", "failed", "unloading", "unloaded"]

STATE = Gauge("sonant_model_state", "1 for the state that the model is in, 0 for the others.", ["model", "state"])
FILE_BYTES = Gauge("sonant_model_file_bytes", "Size of the files of the graphs that are loaded with it.", ["model"])
VERIFICATION = Gauge(
    "sonant_model_verification_error",
    "Error of an output against transformers, as measured when the model was loaded.",
    ["model", "graph", "output"],
)
VERIFICATION_BOUND = Gauge(
    "sonant_model_verification_bound",
    "Error of an output above which the model would not be served.",
    ["model", "graph", "output"],
)
FORM = Gauge("sonant_model_form", "1 for the form that is in use.", ["model", "runtime", "precision"])
FALLBACKS = Counter(
    "sonant_model_form_fallbacks_total", "Forms that turned out not to work, so that another stands in.", ["model"]
)


@dataclass(eq=False)
class Served:
    """A model that is loaded and verified, and its queue."""

    engine: Engine
    scheduler: Scheduler
    text: TextDecoder | None = None  # where the model writes token by token
    calibration: Calibration | None = None
    file_bytes: int = 0  # of the graphs that were loaded with it
    files: FileStates = field(default_factory=dict)  # when it was loaded
    form_bytes: Mapping[str, int] = field(default_factory=dict)  # by form: the size of its files
    fallbacks: int = 0  # of the engine, that were counted
    leases: int = 0  # held now
    leased: int = 0  # times, in all
    retired: asyncio.Event = field(default_factory=asyncio.Event)  # set when it is to be closed
    _returned: asyncio.Event = field(default_factory=asyncio.Event)

    @contextmanager
    def lease(self) -> Iterator[Served]:
        """Keep it from being closed."""
        self.leases += 1
        self.leased += 1
        try:
            yield self
        finally:
            self.leases -= 1
            self._returned.set()

    async def close(self) -> None:
        """Close its queue once nobody holds it any more, and what was asked of it is finished."""
        self.retired.set()
        while self.leases:
            self._returned.clear()
            await self._returned.wait()
        await self.scheduler.close()


class Model:
    """What is called by one name: the engine that is served, or else what became of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.found = time.time()  # in the models folder
        self.version: str | None = None  # the name of the version's folder, where there are versions
        self.engine: Engine | None = None  # what is served, or else the last one whose engine.json could be read
        self.error: str | None = None  # why it, or what was to take its place, is not served
        self.served: Served | None = None
        self.changing = asyncio.Lock()  # held by whoever loads or unloads it
        self._published: dict[Gauge, dict[tuple[str, ...], float]] = {}  # by the labels beside its name
        self.become("loading")

    def become(self, state: State) -> None:
        """Be in `state` from now on."""
        self.state: State = state
        for each in get_args(State):
            STATE.labels(self.name, each).set(each == state)

    @property
    def tasks(self) -> Sequence[Task]:
        """The tasks it serves; none are known where engine.json is not valid."""
        return self.engine.manifest.tasks if self.engine else ()

    def begin(self, engine: Engine, version: str | None) -> None:
        """Load `engine` while nothing is served."""
        self.engine, self.version, self.error = engine, version, None
        self.become("loading")

    def serve(self, served: Served, version: str | None) -> Served | None:
        """Have requests use `served` from now on; return what they used until now."""
        self.publish()
        before, self.served = self.served, served
        self.engine, self.version, self.error = served.engine, version, None
        self.become("ready")
        self.publish()
        return before

    def withdraw(self) -> Served | None:
        """Have no more requests use it; return what they used until now."""
        self.publish()
        before, self.served = self.served, None
        self.error = None
        self.become("unloading" if before else "unloaded")
        self.publish()
        return before

    def fail(self, error: str) -> None:
        """Record why it, or what was to take its place, is not served."""
        self.error = error
        if self.served is None:
            self.become("failed")

    def publish(self) -> None:
        """Bring the metrics of its engine up to date: it loads graphs and gives up forms while it is served."""
        FILE_BYTES.labels(self.name).set(self.served.file_bytes if self.served else 0)
        fallbacks = FALLBACKS.labels(self.name)
        if self.served is None:
            self._set(VERIFICATION, {})
            self._set(VERIFICATION_BOUND, {})
            self._set(FORM, {})
            return
        engine = self.served.engine
        fallbacks.inc(engine.fallbacks - self.served.fallbacks)
        self.served.fallbacks = engine.fallbacks
        checks = [check for checks in engine.checks.copy().values() for check in checks]
        self._set(VERIFICATION, {(check.graph, check.output): check.error for check in checks})
        self._set(VERIFICATION_BOUND, {(check.graph, check.output): check.bound for check in checks})
        self._set(FORM, {(engine.form.runtime, engine.form.precision): 1})

    def _set(self, gauge: Gauge, values: dict[tuple[str, ...], float]) -> None:
        """Set `gauge` to `values` by the labels beside the model's name, and forget those of before."""
        for labels, value in values.items():
            gauge.labels(self.name, *labels).set(value)
        for labels in self._published.get(gauge, {}).keys() - values.keys():
            gauge.remove(self.name, *labels)
        self._published[gauge] = values
