"""The engines that are served: loaded in the background, found by name or by task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engines.engine import Engine
from engines.errors import EngineError
from engines.manifest import Generation, Task
from engines.repository import find_engines
from engines.runtimes import RuntimeOptions
from server.decoding.text import TextDecoder
from server.errors import ModelNotFoundError, ModelNotReadyError, ModelRequiredError, TaskNotSupportedError
from server.scheduling.scheduler import Limits, Scheduler
from server.settings import Settings
from server.tasks.transcribe import default_search

logger = logging.getLogger(__name__)

State = Literal["loading", "ready", "failed"]
# What a client is told to wait while a model loads: loading takes seconds.
LOADING_RETRY_SECONDS = 2


@dataclass(frozen=True)
class Served:
    """A model that is loaded and verified, and its queue."""

    engine: Engine
    scheduler: Scheduler
    text: TextDecoder | None = None  # where the model writes token by token


class Model:
    """An engine folder and what became of it."""

    def __init__(self, name: str, folder: Path, options: RuntimeOptions) -> None:
        """Read engine.json; a folder whose engine.json is not valid has failed already."""
        self.name = name
        self.engine: Engine | None = None
        self.state: State = "loading"
        self.error: str | None = None
        self.served: Served | None = None
        try:
            self.engine = Engine(folder, name, options=options)
        except EngineError as error:
            self.fail(str(error))

    @property
    def tasks(self) -> Sequence[Task]:
        """The tasks it serves; none are known where engine.json is not valid."""
        return self.engine.manifest.tasks if self.engine else ()

    def fail(self, error: str) -> None:
        """Record why the model is not served."""
        self.state, self.error = "failed", error
        logger.error("model %s is not served: %s", self.name, error)


class Models:
    """All models of one folder."""

    def __init__(self, settings: Settings) -> None:
        """Find the engines; raises EngineNotFoundError without the folder, ValueError for an impossible default."""
        self._settings = settings
        options = RuntimeOptions(settings.device, settings.threads)
        self._limits = Limits(settings.queue_seconds, settings.batch_seconds, settings.max_padding, settings.live_beams)
        self._models = {name: Model(name, path, options) for name, path in find_engines(settings.models).items()}
        self._defaults = settings.defaults
        if not self._models:
            logger.warning("no engines in %s", settings.models)
        for task, name in settings.defaults.items():
            model = self._models.get(name)
            if model is None:
                raise ValueError(f"the default of {task} is {name!r}, which is not in {settings.models}")
            if model.engine and task not in model.tasks:
                raise ValueError(f"the default of {task} is {name!r}, which serves only {', '.join(model.tasks)}")

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    @property
    def ready(self) -> bool:
        """Whether there are models, and each is loaded and verified."""
        return bool(self._models) and all(model.state == "ready" for model in self)

    async def load(self) -> None:
        """Load and verify every model, one after the other; one that fails does not stop the others."""
        for model in self:
            if model.engine is None:
                continue
            try:
                text = await asyncio.to_thread(_load, model.engine)
            except EngineError as error:
                model.fail(str(error))
            except Exception as error:
                logger.exception("model %s could not be loaded", model.name)
                model.fail(f"{type(error).__name__}: {error}")
            else:
                engine = model.engine
                scheduler = Scheduler(model.name, engine, engine.manifest.sample_rate, self._limits)
                model.served = Served(engine, scheduler, text)
                model.state = "ready"
                logger.info("model %s is ready: %s", model.name, ", ".join(model.tasks))
                if engine.manifest.generation is not None:
                    tell_limits(model.name, engine.manifest.generation, self._settings)

    async def close(self) -> None:
        """Finish what was admitted."""
        await asyncio.gather(*(model.served.scheduler.close() for model in self if model.served))

    def find(self, name: str) -> Model:
        """Return the model called `name`; raises ModelNotFoundError."""
        if name not in self._models:
            there = ", ".join(self._models) or "none"
            raise ModelNotFoundError(f"there is no model {name!r}; there are: {there}", "model")
        return self._models[name]

    def default_for(self, task: Task) -> str | None:
        """Return the name of the model of `task` where a request names none; None if it must name one."""
        if task in self._defaults:
            return self._defaults[task]
        serving = self._serving(task)
        return serving[0] if len(serving) == 1 else None

    def resolve(self, name: str | None, task: Task) -> Served:
        """Return the model that a request for `task` means; an empty `name` is its default.

        Raises ModelNotFoundError, ModelRequiredError, TaskNotSupportedError or ModelNotReadyError.
        """
        model = self.find(name or self._default(task))
        if model.engine and task not in model.tasks:
            message = f"model {model.name!r} does not serve {task}, only {', '.join(model.tasks)}"
            raise TaskNotSupportedError(message, "model")
        if model.state == "failed":
            raise ModelNotReadyError(f"model {model.name!r} failed to load; /v1/models/{model.name} says why", "model")
        if model.served is None:
            raise ModelNotReadyError(f"model {model.name!r} is loading", "model", LOADING_RETRY_SECONDS)
        return model.served

    def _default(self, task: Task) -> str:
        name = self.default_for(task)
        if name is not None:
            return name
        serving = self._serving(task)
        if not serving:
            raise TaskNotSupportedError(f"no model here serves {task}", "model")
        raise ModelRequiredError(f"{task} has no default model: set 'model' to one of {', '.join(serving)}", "model")

    def _serving(self, task: Task) -> list[str]:
        return [model.name for model in self if task in model.tasks]


def tell_limits(name: str, generation: Generation, settings: Settings) -> None:
    """Log what the checkpoint asks for beyond the operator's limits."""
    asked, served = generation.search, default_search(generation, settings)
    for what, theirs, ours in (
        ("tokens", asked.max_length - 1, served.max_length - 1),
        ("beams", asked.num_beams, served.num_beams),
    ):
        if ours < theirs:
            logger.warning("model %s: by default up to %d %s, not the checkpoint's %d", name, ours, what, theirs)


def _load(engine: Engine) -> TextDecoder | None:
    """Load and verify what every request needs. Raises EngineError."""
    generation = engine.manifest.generation
    if generation is None:
        engine.load(engine.full_graph)
        return None
    # Each session has its own copy of the encoder's weights: the full graph is loaded when it is first asked for.
    for graph in (engine.start_graph, engine.step_graph):
        engine.load(graph)
    return TextDecoder(engine.folder, generation)
