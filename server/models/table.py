"""The models that are served: found by name or by task; loaded, replaced and unloaded while requests go on.

Whatever happens to a model, a request that holds a lease on it is finished by the engine that it began with.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from prometheus_client import Counter

from engines import repository
from engines.engine import Engine
from engines.errors import EngineError
from engines.manifest import Task
from server.calibration import Calibration
from server.errors import (
    ApiError,
    ModelLoadError,
    ModelNotFoundError,
    ModelNotReadyError,
    ModelRequiredError,
    TaskNotSupportedError,
    quoted,
)
from server.models.defaults import Defaults
from server.models.loading import AT_ONCE, Loader
from server.models.model import Model, Served
from server.models.reasons import reason
from server.settings import Settings

logger = logging.getLogger(__name__)

LOADS = Counter(
    "sonant_model_loads_total", "Engines that were loaded, by outcome: served or failed.", ["model", "outcome"]
)
# What a client is told to wait while a model loads: loading takes seconds.
LOADING_RETRY_SECONDS = 2


class Models:
    """All models of one folder."""

    def __init__(self, settings: Settings, on_hung: Callable[[str, float], None] | None = None) -> None:
        """Find the engines; raises EngineNotFoundError without the folder, ValueError for an impossible default.

        `on_hung` is told the name of a model whose engine does not come back from a call, and the seconds.
        """
        self._folder = settings.models
        self._loader = Loader(settings, on_hung)
        folders = repository.find_engines(settings.models)
        self._models = {name: self._read(name, folder) for name, folder in folders.items()}
        if not self._models:
            logger.warning("no engines in %s", settings.models)
        for name in sorted(settings.model_errors.keys() - self._models.keys()):
            logger.warning("model_errors has %r, which is not in the models folder", name)
        self._awaited = set(self._models)  # were there at the start, and have been neither served nor unloaded since
        self._defaults = Defaults(settings.defaults, self._models)
        # An engine that loads takes the time of many requests: one at a time, once there are some.
        self._turn = asyncio.Lock()
        self._changes: set[asyncio.Task[None]] = set()
        self._retired: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[Model]:
        return iter(list(self._models.values()))

    @property
    def ready(self) -> bool:
        """Whether each model that was there at the start was loaded and verified, or unloaded on purpose.

        What is loaded later is not waited for: requests to the others go on.
        """
        return not self._awaited and any(model.state in ("ready", "unloading", "unloaded") for model in self)

    def publish(self) -> None:
        """Bring the metrics of all models up to date."""
        for model in self:
            model.publish()

    @property
    def idle(self) -> bool:
        """Whether no request uses any model, and none is being loaded or unloaded."""
        used = any(model.changing.locked() or (model.served and model.served.leases) for model in self)
        return not (used or self._retired)

    async def run(self) -> None:
        """Load the models, then calibrate them whenever there is nothing else to do; until cancelled."""
        await self.load_all()
        serving = lambda: [model.served for model in self if model.served]  # noqa: E731
        await self._loader.calibrate(serving, lambda: self.idle, self._renew)

    async def load_all(self) -> None:
        """Load the models that were there at the start, in turn; one that fails does not stop the others."""
        turns = asyncio.Semaphore(AT_ONCE)

        async def load(model: Model) -> None:
            async with turns:
                with suppress(ApiError):  # it is in the log and in the list
                    await self._to_the_end(self._load(model))

        await asyncio.gather(*(load(model) for model in self if model.state == "loading"))

    async def load(self, name: str) -> Model:
        """Serve the newest version of `name` that the models folder has now, and return when it is served.

        Where that is served already, nothing is done. Raises ModelNotFoundError; ModelLoadError where the engine is not
        what it must be: then what was served before is served on.
        """
        await self._to_the_end(self._look_and_load(name))
        return self.find(name)

    async def unload(self, name: str) -> Model:
        """Serve `name` no more, and return when what was admitted is finished and its memory is given back.

        Raises ModelNotFoundError.
        """
        model = self.find(name)
        await self._to_the_end(self._unload(model))
        return model

    async def close(self) -> None:
        """Finish what was admitted; the memory goes with the process."""
        for change in self._changes:
            change.cancel()
        await asyncio.gather(*self._changes, return_exceptions=True)
        served = [before for model in self if (before := model.withdraw())]
        await asyncio.gather(*(each.close() for each in served), *self._retired)
        self._loader.close()

    def find(self, name: str) -> Model:
        """Return the model called `name`; raises ModelNotFoundError."""
        if name not in self._models:
            raise _not_found(name, self._models)
        return self._models[name]

    def default_for(self, task: Task) -> str | None:
        """Return the name of the model of `task` where a request names none; None if it must name one."""
        return self._defaults.get(task)

    @asynccontextmanager
    async def lease(self, name: str | None, task: Task) -> AsyncIterator[Served]:
        """Give the model that a request for `task` means, and keep it in use meanwhile; an empty `name` is its default.

        Raises ModelNotFoundError, ModelRequiredError, TaskNotSupportedError or ModelNotReadyError.
        """
        model = self.find(name or self._default(task))
        if model.engine and task not in model.tasks:
            message = f"model {model.name!r} does not serve {task}, only {', '.join(model.tasks)}"
            raise TaskNotSupportedError(message, "model")
        if model.served is None:
            raise _not_ready(model)
        with model.served.lease() as served:
            yield served

    def _default(self, task: Task) -> str:
        name = self.default_for(task)
        if name is not None:
            return name
        serving = [model.name for model in self if task in model.tasks]
        if not serving:
            raise TaskNotSupportedError(f"no model here serves {task}", "model")
        raise ModelRequiredError(f"{task} has no default model: set 'model' to one of {', '.join(serving)}", "model")

    def _read(self, name: str, folder: Path) -> Model:
        """Return the model in `folder`; one whose engine.json is not valid has failed already."""
        model = Model(name)
        model.version = self._version(folder)
        try:
            model.engine = self._loader.read(name, folder)
        except EngineError as error:
            model.fail(reason(error, self._folder))
            logger.error("model %s is not served: %s", name, error)
        return model

    def _version(self, folder: Path) -> str | None:
        return None if folder.parent == self._folder else folder.name

    async def _newest(self, name: str) -> Path:
        """Return the folder of the newest version. `name` is only looked up among those that the models folder has."""
        try:
            found = await asyncio.to_thread(repository.find_engines, self._folder)
        except (EngineError, OSError) as error:
            logger.error("the models folder cannot be read: %s", error)
            raise ModelLoadError("the models folder cannot be read", "model") from None
        if name not in found:
            raise _not_found(name, found)
        return found[name]

    async def _look_and_load(self, name: str) -> None:
        if name not in self._models:
            await self._newest(name)
        if name not in self._models:  # still
            self._models[name] = Model(name)
        async with self._turn:
            await self._load(self._models[name])

    async def _load(self, model: Model) -> None:
        """Load and verify the newest version, then put it in the place of what is served."""
        for outcome in ("served", "failed"):  # a counter that begins with its first event hides that from a rate
            LOADS.labels(model.name, outcome)
        async with model.changing:
            try:
                engine = await self._newer(model)
                if engine is None:
                    return
                served = await self._loader.load(engine)
            except Exception as error:
                LOADS.labels(model.name, "failed").inc()
                raise self._failure(model, error) from None
            LOADS.labels(model.name, "served").inc()
            before = model.serve(served, self._version(engine.folder))
            self._awaited.discard(model.name)
            self._defaults.settle(self)
            version = f", version {model.version}" if model.version else ""
            logger.info("model %s is ready%s: %s", model.name, version, ", ".join(model.tasks))
            if before:
                self._retire(before)

    async def _renew(self, before: Served, measured: Calibration) -> None:
        """Serve the engine of `before` as `measured`, in another form; where that fails, `before` is served on."""
        for model in self:
            if model.served is before:
                await self._to_the_end(self._exchange(model, before, measured))

    async def _exchange(self, model: Model, before: Served, measured: Calibration) -> None:
        async with model.changing:
            try:
                engine = await asyncio.to_thread(self._loader.read, model.name, before.engine.folder)
                files = await asyncio.to_thread(repository.state_of_files, engine)
                if model.served is not before or files != before.files:  # another was loaded, or is about to be
                    return
                served = await self._loader.load(engine, measured)
            except Exception as error:
                logger.warning("model %s stays in %s: %s", model.name, before.engine.form.name, error)
                return
            if served.engine.form.name != measured.form:  # that did not work after all, as the log says
                self._retire(served)
                return
            model.serve(served, model.version)
            logger.info("model %s is served in %s now", model.name, served.engine.form.name)
            self._retire(before)

    async def _newer(self, model: Model) -> Engine | None:
        """Read engine.json of the newest version; return None where that is served, and its files are as they were."""
        folder = await self._newest(model.name)
        engine = await asyncio.to_thread(self._loader.read, model.name, folder)
        files = await asyncio.to_thread(repository.state_of_files, engine)
        if model.served and (model.served.engine.folder, model.served.files) == (folder, files):
            model.error = None
            return None
        if lost := self._defaults.lost(model.name, engine.manifest.tasks):
            what = folder.relative_to(self._folder)
            raise ModelLoadError(f"{what} does not serve {', '.join(lost)}, of which it is the default", "model")
        if model.served is None:
            model.begin(engine, self._version(folder))
        return engine

    def _failure(self, model: Model, error: Exception) -> ApiError:
        """Record why `model` could not be loaded; return what to tell who asked for it."""
        expected = isinstance(error, EngineError | ApiError)
        detail = str(error) if expected else f"{type(error).__name__}: {error}"
        kept = "; what was served before is served on" if model.served else ""
        trace = None if expected else error
        logger.error("model %s could not be loaded%s: %s", model.name, kept, detail, exc_info=trace)
        told = reason(error, self._folder)
        model.fail(told)
        return error if isinstance(error, ApiError) else ModelLoadError(told + kept, "model")

    async def _unload(self, model: Model) -> None:
        async with model.changing:
            before = model.withdraw()
            self._awaited.discard(model.name)
            if before:
                await asyncio.shield(self._retire(before))
                logger.info("model %s is unloaded", model.name)
            model.become("unloaded")

    def _retire(self, served: Served) -> asyncio.Task[None]:
        return _keep(self._retired, self._loader.unload(served))

    async def _to_the_end(self, change: Coroutine[Any, Any, None]) -> None:
        """Await `change`, which goes on when whoever asked for it does not wait."""
        await asyncio.shield(_keep(self._changes, change))


def _not_found(name: str, there: Mapping[str, object]) -> ModelNotFoundError:
    return ModelNotFoundError(f"there is no model {quoted(name)}; there are: {', '.join(there) or 'none'}", "model")


def _not_ready(model: Model) -> ModelNotReadyError:
    if model.state == "loading":
        return ModelNotReadyError(f"model {model.name!r} is loading", "model", LOADING_RETRY_SECONDS)
    if model.state == "failed":
        return ModelNotReadyError(f"model {model.name!r} failed to load; /v1/models/{model.name} says why", "model")
    return ModelNotReadyError(f"model {model.name!r} is unloaded", "model")


def _keep(tasks: set[asyncio.Task[None]], change: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Run `change` as a task that is not collected before it is done."""
    task = asyncio.create_task(change)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task
