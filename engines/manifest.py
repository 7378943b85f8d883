"""engine.json: the one thing that `export`, `engines` and `server` share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from engines import files
from engines.consistency import problems
from engines.errors import EngineInvalidError, EngineNotFoundError, EngineVersionError
from engines.parts import (
    BASE,
    DEVICES,
    EMBEDDINGS,
    HIDDEN_STATES,
    LOGITS,
    TOKENS,
    Checkpoint,
    Classification,
    Ctc,
    DeviceName,
    Generation,
    Golden,
    Graph,
    Output,
    Part,
    Plan,
    Precision,
    ProblemType,
    Profile,
    Quality,
    Role,
    RuntimeName,
    Search,
    Sha256,
    Task,
)

__all__ = [
    "BASE",
    "DEVICES",
    "LOGITS",
    "MANIFEST_NAME",
    "SCHEMA_VERSION",
    "TOKENS",
    "Checkpoint",
    "Classification",
    "Ctc",
    "DeviceName",
    "Generation",
    "Golden",
    "Graph",
    "Manifest",
    "Output",
    "Plan",
    "Precision",
    "ProblemType",
    "Profile",
    "Quality",
    "Role",
    "RuntimeName",
    "Search",
    "Task",
]

SCHEMA_VERSION: Literal[1] = 1
MANIFEST_NAME = "engine.json"
# Of an engine.json: a vocabulary of 250,000 tokens takes some 5 MB.
MAX_BYTES = 16 * 2**20
# Of an integer in it: twice it is still a number of 64 bits, and a float.
MAX_INTEGER = 2**62


class Manifest(Part):
    """The contents of engine.json."""

    schema_version: Literal[1] = SCHEMA_VERSION
    family: str
    tasks: tuple[Task, ...]
    checkpoint: Checkpoint
    sample_rate: PositiveInt
    min_samples: PositiveInt  # below it the encoder has no frame
    max_samples: PositiveInt  # above it a clip is windowed or refused
    preprocessor: dict[str, bool | int | float | str | None]  # what the graph's front end does, for the reader
    hidden_size: PositiveInt
    num_layers: PositiveInt
    parameters: PositiveInt
    outputs: tuple[Output, ...]
    ctc: Ctc | None = None
    classification: Classification | None = None
    generation: Generation | None = None
    variant: str | None = None  # a named departure from what transformers computes, never the default
    # What the departure amounts to: the error, against transformers on the golden clips, of pooled and logits.
    variant_difference: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(default_factory=dict)
    graphs: tuple[Graph, ...]
    golden: Golden
    created: dict[str, str]  # versions of what exported it
    target_lang: str | None = None
    head: Sha256 | None = None  # of the file of the classifier that was put on the checkpoint

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problem = next(problems(self), None)
        if problem is not None:
            raise ValueError(problem)
        return self

    def proved(self, graph: Graph) -> list[str]:
        """Return the outputs of `graph` that are kept for the golden clips."""
        kept = {"encode": self.golden.outputs, "start": self.golden.cross, "step": (LOGITS,) * bool(self.golden.tokens)}
        return [name for name in kept[graph.role] if name in graph.outputs]

    def output(self, name: str) -> Output:
        """Return the output called `name`; KeyError if the engine has none."""
        for output in self.outputs:
            if output.name == name:
                return output
        raise KeyError(name)

    @property
    def task_outputs(self) -> dict[Task, str]:
        """The output that the results of each task are made of; those that a decoder writes are made of none."""
        sources: dict[Task, str] = {"encode": EMBEDDINGS, "classify": LOGITS}
        if self.ctc:
            sources["transcribe"] = LOGITS
        return {task: sources[task] for task in self.tasks if task in sources}

    @property
    def hidden_states(self) -> tuple[int, ...]:
        """The N for which `hidden_states.N` can be asked."""
        names = [output.name for output in self.outputs if output.name.startswith(HIDDEN_STATES)]
        return tuple(int(name.removeprefix(HIDDEN_STATES)) for name in names)

    @property
    def seconds(self) -> tuple[PositiveFloat, PositiveFloat]:
        """Shortest and longest clip, in seconds."""
        return self.min_samples / self.sample_rate, self.max_samples / self.sample_rate

    def write(self, folder: Path) -> None:
        """Write engine.json into `folder`."""
        text = json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False)
        (folder / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read engine.json of `folder`.

        Raises EngineNotFoundError, EngineInvalidError (not JSON, or not to the schema) or EngineVersionError.
        """
        path = folder / MANIFEST_NAME
        try:
            data = json.loads(files.read(path, MAX_BYTES), parse_int=_integer)
        except FileNotFoundError:
            raise EngineNotFoundError(
                f"{folder} is not an engine: it has no {MANIFEST_NAME}; write one with `sonant export`"
            ) from None
        except (ValueError, OSError, RecursionError, MemoryError) as error:
            what = str(error) or type(error).__name__
            raise EngineInvalidError(f"{path} cannot be read ({what}); export the engine again") from None
        version = data.get("schema_version") if isinstance(data, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise EngineVersionError(
                f"{path} has schema {version}, this installation reads up to {SCHEMA_VERSION}: "
                "upgrade sonant, or export the engine again with this version"
            )
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the whole file"
            raise EngineInvalidError(f"{path}: {where}: {first['msg']}; export the engine again") from None


def _integer(digits: str) -> int:
    """Return an integer of the file; ValueError where it is too large to be calculated with."""
    number = int(digits)
    if abs(number) > MAX_INTEGER:
        raise ValueError("an integer of more than 62 bits")
    return number
