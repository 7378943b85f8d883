"""The options of each task, and the answers as OpenAPI documents them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, field_validator

Pooling = Literal["none", "mean", "max", "first"]
ScoreFunction = Literal["softmax", "sigmoid", "none"]


class Options(BaseModel):
    """The same names in the form, in the query and in JSON. Unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str | None, Field(description="Name of the model; the task's default if absent or empty.")] = None


class EncodeOptions(Options):
    """Options of POST /v1/encode."""

    layer: Annotated[
        NonNegativeInt | Annotated[list[NonNegativeInt], Field(min_length=1)] | None,
        Field(description="One hidden state, or several; 0 is the encoder's input. Default: the last layer's output."),
    ] = None
    pooling: Annotated[Pooling, Field(description="How the frames become one vector.")] = "none"
    normalize: Annotated[bool, Field(description="Scale each vector to length 1.")] = False
    encoding_format: Annotated[
        Literal["float", "base64"], Field(description="base64: of the little-endian float32 values, in C order.")
    ] = "float"

    @field_validator("layer")
    @classmethod
    def _each_once(cls, layer: int | list[int] | None) -> int | list[int] | None:
        if isinstance(layer, list) and len(set(layer)) < len(layer):
            raise ValueError("a layer is named twice")
        return layer

    @property
    def layers(self) -> tuple[int, ...]:
        """The hidden states asked for, in the order of the request; empty for the last layer's output."""
        if self.layer is None:
            return ()
        return tuple(self.layer) if isinstance(self.layer, list) else (self.layer,)


class TranscribeOptions(Options):
    """Options of POST /v1/transcribe."""

    timestamps: Annotated[Literal["none", "word", "char"], Field(description="Only none is supported.")] = "none"
    beams: Annotated[PositiveInt, Field(description="Only 1 is supported: the greedy path.")] = 1
    hotwords: Annotated[str | list[str] | None, Field(description="Not supported.")] = None
    language: Annotated[str | None, Field(description="Not supported.")] = None
    response_format: Annotated[
        Literal["json", "text"], Field(description="text: text/plain, one line for each clip.")
    ] = "json"


class ClassifyOptions(Options):
    """Options of POST /v1/classify."""

    top_k: Annotated[PositiveInt, Field(description="How many labels; all, if there are fewer.")] = 5
    function: Annotated[
        ScoreFunction | None,
        Field(description="Default: none for regression, sigmoid for multi-label classification, else softmax."),
    ] = None


class Usage(BaseModel):
    """What was processed."""

    audio_seconds: float


class Answer(BaseModel):
    """What the answers of all tasks have."""

    model: str
    usage: Usage


class EmbeddingItem(BaseModel):
    """One array of one clip."""

    object: Literal["embedding"]
    index: Annotated[NonNegativeInt, Field(description="Of the clip in the request.")]
    layer: Annotated[int | None, Field(description="The hidden state, where one was asked for.")] = None
    embedding: Annotated[
        list[list[float]] | list[float] | str, Field(description="Of `shape`; a string if encoding_format is base64.")
    ]
    shape: list[int]
    frame_rate: Annotated[float | None, Field(description="Frames per second; null without a time axis.")]
    duration: Annotated[float, Field(description="Of the clip, in seconds.")]


class EncodeAnswer(Answer):
    """Answer of POST /v1/encode."""

    object: Literal["list"]
    data: list[EmbeddingItem]


class TranscriptItem(BaseModel):
    """The text of one clip."""

    index: NonNegativeInt
    text: str
    confidence: Annotated[
        float | None,
        Field(
            description="Geometric mean of the best token's probability over the frames that emit; null without text."
        ),
    ]
    duration: float


class TranscribeAnswer(Answer):
    """Answer of POST /v1/transcribe."""

    data: list[TranscriptItem]
    text: Annotated[str, Field(description="Of the first clip.")]


class LabelItem(BaseModel):
    """A label and its score."""

    label: str
    score: float


class ClassificationItem(BaseModel):
    """The labels of one clip, best first."""

    index: NonNegativeInt
    labels: list[LabelItem]
    duration: float


class ClassifyAnswer(Answer):
    """Answer of POST /v1/classify."""

    data: list[ClassificationItem]


class ModelItem(BaseModel):
    """A model. Where engine.json is not valid, only `id`, `object`, `state`, `error` and `default_for` are there."""

    id: str
    object: Literal["model"]
    state: Literal["loading", "ready", "failed"]
    error: Annotated[str | None, Field(description="Why it failed to load.")]
    default_for: Annotated[list[str], Field(description="Tasks for which it is the default.")]
    tasks: list[str] | None = None
    family: str | None = None
    checkpoint: str | None = None
    revision: str | None = None
    license: str | None = None
    parameters: int | None = None
    sample_rate: Annotated[int | None, Field(description="In Hz; audio of other rates is resampled.")] = None
    min_seconds: float | None = None
    max_seconds: float | None = None
    hidden_size: int | None = None
    hidden_states: Annotated[list[int] | None, Field(description="What `layer` may name.")] = None
    labels: list[str] | None = None
    parity: Annotated[
        dict[str, dict[str, float]] | None,
        Field(description="By loaded graph and output: the error against transformers, as measured here at load."),
    ] = None


class ModelList(BaseModel):
    """Answer of GET /v1/models."""

    object: Literal["list"]
    data: list[ModelItem]


class Health(BaseModel):
    """Answer of GET /health/ready."""

    status: Literal["ready", "not_ready"]
    models: Annotated[dict[str, Literal["loading", "ready", "failed"]], Field(description="State by model.")]


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: Annotated[str | None, Field(description="The field at fault, such as file[3].")]
    code: str


class ErrorAnswer(BaseModel):
    """Answer of every request that fails."""

    error: ErrorDetail
