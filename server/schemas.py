"""The options of each task, and the answers as OpenAPI documents them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, field_validator

Pooling = Literal["none", "mean", "max", "first", "model"]
ScoreFunction = Literal["softmax", "sigmoid", "none"]
Windows = Annotated[
    Literal["auto", "none"],
    Field(
        description="What happens to a clip that is longer than the model takes. auto: it is cut into windows, whose "
        "scores or vectors are averaged by their lengths (with pooling max or first, the largest values or the first "
        "vector are taken); none: it is refused."
    ),
]
WindowCount = Annotated[PositiveInt, Field(description="Into how many windows the clip was cut; 1 if it was not.")]


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
    pooling: Annotated[
        Pooling,
        Field(
            description="How the frames become one vector. model: as the model itself pools them, the mean if it has "
            "no pooler. none: they stay, and a clip that is longer than the model takes is refused."
        ),
    ] = "none"
    windows: Windows = "auto"
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
    """Options of POST /v1/transcribe.

    A model either labels the frames (CTC), or writes the text token by token, which is what most of these are about.
    """

    timestamps: Annotated[Literal["none", "word", "char"], Field(description="Only none is supported.")] = "none"
    beams: Annotated[
        PositiveInt | None,
        Field(description="Beginnings of the text that are kept at each token. Default: the checkpoint's; CTC has 1."),
    ] = None
    alternatives: Annotated[
        PositiveInt | None,
        Field(description="Return that many texts with their scores, best first: up to as many as there are beams."),
    ] = None
    temperature: Annotated[
        float | None,
        Field(ge=0, allow_inf_nan=False, description="Above 0: tokens are drawn; 0: the best is taken."),
    ] = None
    top_k: Annotated[NonNegativeInt | None, Field(description="Draw from that many best tokens; 0: from all.")] = None
    top_p: Annotated[
        float | None, Field(gt=0, le=1, description="Draw from the best tokens that have this probability together.")
    ] = None
    seed: Annotated[
        NonNegativeInt | None, Field(description="What is drawn for a clip is the same with the same seed.")
    ] = None
    max_tokens: Annotated[
        PositiveInt | None, Field(description="The text ends after that many tokens. Default: the checkpoint's.")
    ] = None
    language: Annotated[
        str | None, Field(description="Of the text, by a name that the model has. Default: the checkpoint's.")
    ] = None
    hotwords: Annotated[str | list[str] | None, Field(description="Not supported.")] = None
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
    windows: Windows = "auto"


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
    windows: WindowCount


class EncodeAnswer(Answer):
    """Answer of POST /v1/encode."""

    object: Literal["list"]
    data: list[EmbeddingItem]


class AlternativeItem(BaseModel):
    """A text that may have been said."""

    text: str
    confidence: float | None
    score: Annotated[
        float,
        Field(
            description="What alternatives are ranked by: the sum of the tokens' log-probabilities, by their count to "
            "the power of the checkpoint's length penalty."
        ),
    ]


class TranscriptItem(BaseModel):
    """The text of one clip."""

    index: NonNegativeInt
    text: str
    confidence: Annotated[
        float | None,
        Field(
            description="Geometric mean of the probabilities that the model gives to the tokens of the text: with CTC "
            "over the frames that emit one, else with the token that ends the text; null without text."
        ),
    ]
    duration: float
    language: Annotated[str | None, Field(description="As asked for.")] = None
    tokens: Annotated[int | None, Field(description="How many the model wrote; absent with CTC.")] = None
    alternatives: Annotated[list[AlternativeItem] | None, Field(description="If asked for; the first is `text`.")] = (
        None
    )


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
    windows: WindowCount


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
    languages: Annotated[list[str] | None, Field(description="What `language` may name.")] = None
    variant: Annotated[str | None, Field(description="A named departure from what the checkpoint computes.")] = None
    variant_difference: Annotated[
        dict[str, float] | None, Field(description="By output: the error of the variant against the checkpoint.")
    ] = None
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
