"""The answers, as OpenAPI documents them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, NonNegativeInt, PositiveInt

from engines.manifest import DeviceName, Plan, Precision, Quality, RuntimeName
from server.calibration import Calibration

WindowCount = Annotated[PositiveInt, Field(description="Into how many windows the clip was cut; 1 if it was not.")]


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
    times: Annotated[
        list[float] | None, Field(description="Seconds from the clip's beginning to that of each frame, if asked for.")
    ] = None
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
            "the power of the checkpoint's length penalty; with CTC, the log-probability of the text, and what its "
            "hotwords add."
        ),
    ]


class TimedItem(BaseModel):
    """A part of the text, and when it is said: in seconds from the beginning of the clip."""

    start: float
    end: float
    confidence: Annotated[float | None, Field(description="As of the text; null where the model says nothing of it.")]


class WordItem(TimedItem):
    """A word."""

    word: str


class CharItem(TimedItem):
    """A character, or what the vocabulary has in its place; also the space between two words."""

    char: str


class SegmentItem(TimedItem):
    """A part of the text that is as long as a subtitle; of a model that writes texts, what it wrote of one window."""

    text: str


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
    windows: WindowCount
    language: Annotated[str | None, Field(description="As asked for.")] = None
    tokens: Annotated[int | None, Field(description="How many the model wrote; absent with CTC.")] = None
    words: Annotated[list[WordItem] | None, Field(description="With timestamps, or verbose_json and CTC.")] = None
    chars: Annotated[list[CharItem] | None, Field(description="With timestamps=char.")] = None
    segments: Annotated[list[SegmentItem] | None, Field(description="With verbose_json.")] = None
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


class LabelsInTime(BaseModel):
    """The labels of one window, best first, and where it lies in its clip."""

    start: Annotated[float, Field(description="Seconds from the clip's beginning.")]
    end: float
    labels: list[LabelItem]


class ClassificationItem(BaseModel):
    """The labels of one clip, best first."""

    index: NonNegativeInt
    labels: list[LabelItem]
    timeline: Annotated[list[LabelsInTime] | None, Field(description="Window by window, if asked for.")] = None
    duration: float
    windows: WindowCount


class ClassifyAnswer(Answer):
    """Answer of POST /v1/classify."""

    data: list[ClassificationItem]


class GenerationItem(BaseModel):
    """How text is written where a request asks for nothing: as the checkpoint asks, within the server's limits."""

    max_tokens: Annotated[int, Field(description="At most, about one clip.")]
    beams: int


class FormItem(BaseModel):
    """A form of a model: its graphs of one runtime and precision."""

    runtime: RuntimeName
    precision: Precision
    devices: Annotated[list[DeviceName], Field(description="On which it is of use.")]
    in_use: bool
    reason: Annotated[
        str | None, Field(description="Why it may not be used here; null where it may, and another is faster.")
    ]
    error: Annotated[float | None, Field(description="The largest of `errors`, with which `max_error` is compared.")]
    errors: Annotated[
        dict[str, float],
        Field(
            description="By output: the largest error against transformers on the golden clips, as measured at export."
        ),
    ]
    cosine: Annotated[float | None, Field(description="The least between an output and that of transformers.")]
    quality: Annotated[
        list[Quality], Field(description="What that comes to on clips with known answers, where it was evaluated.")
    ]
    verified: Annotated[
        bool, Field(description="Whether it has reproduced the golden clips in its runtime, at export or here.")
    ]
    file_bytes: Annotated[int | None, Field(description="Size of its files; null if the model is not served.")]
    plans: Annotated[list[Plan], Field(description="For which GPUs it was built, and for which batches.")]


State = Annotated[
    Literal["loading", "ready", "failed", "unloading", "unloaded"],
    Field(description="A model that is replaced is ready all the time; unloading: what was admitted is finished."),
]


class ModelItem(BaseModel):
    """A model. Where engine.json is not valid, only what is required is there."""

    id: str
    object: Literal["model"]
    created: Annotated[int, Field(description="When the server found it, in seconds since 1970.")]
    owned_by: Annotated[Literal["sonant"], Field(description="For OpenAI's clients, which expect it.")]
    version: Annotated[str | None, Field(description="The folder of the version; null where there are no versions.")]
    state: State
    error: Annotated[
        str | None, Field(description="Why it failed to load; of a ready model, why what was to replace it did.")
    ]
    default_for: Annotated[list[str], Field(description="Tasks for which it is the default.")]
    tasks: list[str] | None = None
    family: str | None = None
    checkpoint: str | None = None
    revision: str | None = None
    license: str | None = None
    parameters: int | None = None
    file_bytes: Annotated[int | None, Field(description="Size of the files that are loaded; 0 if none is.")] = None
    calibration: Annotated[
        Calibration | None, Field(description="How it is run on this host; null if it is not served.")
    ] = None
    sample_rate: Annotated[int | None, Field(description="In Hz; audio of other rates is resampled.")] = None
    min_seconds: float | None = None
    max_seconds: float | None = None
    hidden_size: int | None = None
    hidden_states: Annotated[list[int] | None, Field(description="What `layer` may name.")] = None
    labels: list[str] | None = None
    languages: Annotated[list[str] | None, Field(description="What `language` may name.")] = None
    generation: Annotated[
        GenerationItem | None, Field(description="Of a model that writes token by token: what a request gets.")
    ] = None
    variant: Annotated[str | None, Field(description="A named departure from what the checkpoint computes.")] = None
    variant_difference: Annotated[
        dict[str, float] | None, Field(description="By output: the error of the variant against the checkpoint.")
    ] = None
    forms: Annotated[
        list[FormItem] | None, Field(description="Of every runtime and precision that the engine has.")
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

    status: Literal["ready", "not_ready", "shutting_down"]
    models: dict[str, State]


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: Annotated[str | None, Field(description="The field at fault, such as file[3].")]
    code: str


class ErrorAnswer(BaseModel):
    """Answer of every request that fails."""

    error: ErrorDetail
