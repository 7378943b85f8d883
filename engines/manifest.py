"""engine.json: the one thing that `export`, `engines` and `server` share."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from engines.errors import EngineInvalidError, EngineNotFoundError, EngineVersionError

SCHEMA_VERSION: Literal[1] = 1
MANIFEST_NAME = "engine.json"
LOGITS, TOKENS = "logits", "tokens"

Task = Literal["encode", "transcribe", "classify"]
Role = Literal["encode", "start", "step"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# A name inside the engine's folder: no separator, no leading dot, so that no path leaves the folder.
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", max_length=128)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Checkpoint(_Model):
    """Where the weights came from."""

    source: str  # hub id, or the name of the local folder
    revision: str | None  # commit of the hub repository; None for a folder
    sha256: Sha256  # over the names and contents of the configuration and weight files
    architecture: str  # the transformers class
    license: str | None


class Output(_Model):
    """One array that a graph computes.

    `shape` names each axis: "batch", the name of a time axis, or a fixed size. An output with a time axis names the
    lengths output that says how many of its frames are valid in each row, and how many samples one frame advances: none
    where several stand for the same time.
    """

    name: str
    shape: tuple[str | PositiveInt, ...]
    lengths: str | None = None
    samples_per_frame: PositiveInt | None = None

    @property
    def has_other_rows(self) -> bool:
        """Whether a clip has rows of it that are not frames."""
        return len(self.shape) > 2 and self.samples_per_frame is None


class Ctc(_Model):
    """How per-frame logits become text, as the checkpoint's tokenizer does it."""

    vocabulary: tuple[str, ...]  # by id
    blank: NonNegativeInt
    skipped: tuple[NonNegativeInt, ...]  # special tokens that never reach the text, beside the blank
    word_delimiter: str | None
    replace_word_delimiter: str = " "
    lowercase: bool = False


class Classification(_Model):
    """How logits become labels."""

    labels: tuple[str, ...]  # by id
    problem_type: ProblemType


class Search(_Model):
    """How tokens are chosen, under the names and with the meanings of transformers' generation_config.json."""

    max_length: PositiveInt  # tokens, the start token included
    min_length: NonNegativeInt = 0
    num_beams: PositiveInt = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    do_sample: bool = False
    temperature: PositiveFloat = 1.0
    top_k: NonNegativeInt = 50  # 0: all
    top_p: float = Field(1.0, gt=0, le=1)
    repetition_penalty: PositiveFloat = 1.0
    no_repeat_ngram_size: NonNegativeInt = 0
    suppress_tokens: tuple[NonNegativeInt, ...] = ()
    begin_suppress_tokens: tuple[NonNegativeInt, ...] = ()
    forced_bos_token_id: NonNegativeInt | None = None
    forced_eos_token_id: NonNegativeInt | None = None


class Generation(_Model):
    """How a decoder writes text, one token at a time.

    Its graphs: the one of role `start` computes what the decoder's cross attention reads of each clip, once; the one of
    role `step` advances every row by a token. `engines.generation` says what goes in and comes out.
    """

    tokenizer: FileName  # of the `tokenizers` library
    tokenizer_sha256: Sha256
    layers: PositiveInt  # of the decoder
    heads: PositiveInt
    head_size: PositiveInt
    vocabulary_size: PositiveInt
    max_positions: PositiveInt | None = None  # tokens that the decoder can take; None where nothing bounds them
    start_token: NonNegativeInt
    eos_tokens: tuple[NonNegativeInt, ...]
    pad_token: NonNegativeInt
    skipped: tuple[NonNegativeInt, ...]  # special tokens, which never reach the text
    clean_up_spaces: bool  # " ." -> "." and such, as the checkpoint's tokenizer does
    languages: dict[str, NonNegativeInt] = {}  # the token that is forced to be the first of each language
    search: Search  # what the checkpoint asks for where a request says nothing

    @property
    def ids(self) -> tuple[int, ...]:
        """Every id that is named here, in no order."""
        forced = (self.search.forced_bos_token_id, self.search.forced_eos_token_id)
        suppressed = (*self.search.suppress_tokens, *self.search.begin_suppress_tokens)
        chosen = (self.start_token, self.pad_token, *self.eos_tokens, *self.languages.values())
        return (*chosen, *suppressed, *(token for token in forced if token is not None))

    @property
    def cross(self) -> tuple[str, ...]:
        """The keys and values that the decoder's cross attention reads, by the names that they have in the graphs."""
        return self._names("cross")

    @property
    def past(self) -> tuple[str, ...]:
        """The keys and values of earlier tokens that a step reads."""
        return self._names("past")

    @property
    def present(self) -> tuple[str, ...]:
        """The keys and values that a step leaves for the next, in the order of `past`."""
        return self._names("present")

    def _names(self, kind: str) -> tuple[str, ...]:
        return tuple(f"{kind}.{layer}.{part}" for layer in range(self.layers) for part in ("key", "value"))


class Graph(_Model):
    """One executable form of the engine.

    `errors` is the error of each output as measured at export against transformers in fp32 on the golden clips: max
    abs difference over valid frames / max abs of the reference, absolute where that is below 1e-3.
    """

    name: FileName  # the precision, and `.layersN` for a truncated graph, `.start` and `.step` for a decoder's
    role: Role = "encode"
    precision: Precision
    runtime: Literal["onnxruntime"]
    file: FileName
    sha256: dict[FileName, Sha256]  # of every file that the graph reads
    outputs: tuple[str, ...]  # of a start graph the keys and values for the cross attention, of a step graph logits
    layers: NonNegativeInt  # encoder layers that it runs: the cheapest graph that has the outputs asked for is used
    max_rows: PositiveInt | None = None  # 1 where the rows of a batch are not independent
    opset: PositiveInt
    errors: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]


class Golden(_Model):
    """Reference clips and what transformers computes for each, alone and unpadded, in fp32."""

    file: FileName = "golden.safetensors"
    sha256: Sha256
    clips: PositiveInt
    outputs: tuple[str, ...]
    cross: tuple[str, ...] = ()  # of what the start graph computes, as `Generation.cross` names it
    tokens: NonNegativeInt = 0  # of a text that each clip is given, with the logits of the token after each
    stride: PositiveInt = 1  # of these logits, one in so many is kept
    rows: PositiveInt | None = None  # of outputs whose rows are not frames, so many are kept; None: all

    @property
    def kept(self) -> tuple[str, ...]:
        """What the file holds of each clip beside its waveform."""
        return (*self.outputs, *self.cross, *((TOKENS, LOGITS) if self.tokens else ()))

    def cut(self, output: Output) -> slice:
        """Return which rows of `output` are kept of each clip."""
        return slice(self.rows if output.has_other_rows else None)


class Manifest(_Model):
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
    variant_difference: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    graphs: tuple[Graph, ...]
    golden: Golden
    created: dict[str, str]  # versions of what exported it
    target_lang: str | None = None
    head: Sha256 | None = None  # of the file of the classifier that was put on the checkpoint

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problem = next(self._problems(), None)
        if problem is not None:
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        """Say what contradicts what."""
        names = {output.name for output in self.outputs}
        if not self.outputs or not self.graphs:
            yield "it needs at least one output and one graph"
        for what, each in (("outputs", self.outputs), ("graphs", self.graphs)):
            if repeated := _repeated(item.name for item in each):
                yield f"two {what} are called {', '.join(repeated)}"
        for output in self.outputs:
            timed = any(isinstance(axis, str) and axis != "batch" for axis in output.shape)
            if timed != (output.lengths is not None):
                yield f"output {output.name}: a time axis goes with lengths"
            if output.samples_per_frame is not None and not timed:
                yield f"output {output.name}: samples_per_frame goes with a time axis"
        encoding = [graph for graph in self.graphs if graph.role == "encode"]
        parts = [("golden", self.golden.outputs), *((f"graph {graph.name}", graph.outputs) for graph in encoding)]
        for where, outputs in parts:
            if repeated := _repeated(outputs):
                yield f"{where} names {', '.join(repeated)} twice"
            if unknown := sorted(set(outputs) - names):
                yield f"{where} has outputs that the engine has not: {', '.join(unknown)}"
        yield from self._problems_of_generation()
        for graph in self.graphs:
            if graph.file not in graph.sha256:
                yield f"graph {graph.name}: sha256 lacks {graph.file}"
            if not self.proved(graph):
                yield f"graph {graph.name} has no output that the golden clips could prove"
        if self.min_samples > self.max_samples:
            yield f"min_samples {self.min_samples} is above max_samples {self.max_samples}"
        if self.ctc and max(self.ctc.blank, *self.ctc.skipped, 0) >= len(self.ctc.vocabulary):
            yield f"ctc: blank or skipped is no id of the {len(self.ctc.vocabulary)} of the vocabulary"
        if "transcribe" in self.tasks and (self.ctc is None) == (self.generation is None):
            yield "the task transcribe needs either ctc or generation"
        if "classify" in self.tasks and self.classification is None:
            yield "the task classify needs classification"

    def _problems_of_generation(self) -> Iterator[str]:
        spec = self.generation
        roles = Counter(graph.role for graph in self.graphs if graph.role != "encode")
        if spec is None:
            if roles or self.golden.cross or self.golden.tokens:
                yield "it has graphs or golden clips of a decoder, but no generation"
            return
        if set(roles) != {"start", "step"}:
            yield "generation needs a graph of role start and one of role step"
        for graph in self.graphs:
            expected = {"start": spec.cross, "step": (LOGITS,)}.get(graph.role, graph.outputs)
            if graph.outputs != expected:
                yield f"graph {graph.name}: the outputs of role {graph.role} are {', '.join(expected)}"
        if unknown := sorted(set(self.golden.cross) - set(spec.cross)):
            yield f"golden has outputs that the start graph has not: {', '.join(unknown)}"
        if self.golden.tokens > (spec.max_positions or self.golden.tokens):
            yield f"golden has texts of {self.golden.tokens} tokens, the decoder takes {spec.max_positions}"
        if max(spec.ids) >= spec.vocabulary_size:
            yield f"generation: {max(spec.ids)} is no id of the {spec.vocabulary_size} of the vocabulary"

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
    def hidden_states(self) -> tuple[int, ...]:
        """The N for which `hidden_states.N` can be asked."""
        prefix = "hidden_states."
        return tuple(int(o.name.removeprefix(prefix)) for o in self.outputs if o.name.startswith(prefix))

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
            data = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise EngineNotFoundError(
                f"{folder} is not an engine: it has no {MANIFEST_NAME}; write one with `sonant export`"
            ) from None
        except (ValueError, OSError) as error:
            raise EngineInvalidError(f"{path} cannot be read ({error}); export the engine again") from None
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


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]
