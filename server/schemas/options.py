"""The options of each task."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationInfo, field_validator

# Longer than any name, and any list, that makes sense: what is beyond is not looked at.
MAX_CHARACTERS = 256
MAX_ITEMS = 256
# Of a window: four hours have some ten thousand, each with its own share of the work beside the engine's.
MIN_WINDOW_SECONDS = 0.5

# Of a hotword: the model's own scores of a whole word differ by less.
MAX_HOTWORD_WEIGHT = 100.0

Word = Annotated[str, Field(max_length=MAX_CHARACTERS)]
Pooling = Literal["none", "mean", "max", "first", "model"]
DType = Literal["float32", "float16"]
ScoreFunction = Literal["softmax", "sigmoid", "none"]
Timestamps = Literal["none", "word", "char"]
ResponseFormat = Literal["json", "text", "srt", "vtt", "verbose_json"]
ContextSeconds = Annotated[
    float | None,
    Field(
        ge=0,
        allow_inf_nan=False,
        description="What a window sees on each side of what it contributes: up to a quarter of it. Default: 1.3, or a "
        "quarter. Refused where windows are averaged, or joined at pauses.",
    ),
]


class Options(BaseModel):
    """The same names in the form, in the query and in JSON. Unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[Word | None, Field(description="Name of the model; the task's default if absent or empty.")] = None
    timeout: Annotated[
        float | None,
        Field(
            gt=0,
            allow_inf_nan=False,
            description="Seconds within which the answer is wanted; after that it is 504, and what waits is dropped. "
            "The server has a default and a ceiling.",
        ),
    ] = None


class WindowOptions(Options):
    """Options of a task that takes clips of any length."""

    windows: Annotated[
        Literal["auto", "none"],
        Field(
            description="What happens to a clip that is longer than the model takes. auto: it is cut into windows, and "
            "their results are joined; none: it is refused."
        ),
    ] = "auto"
    window_seconds: Annotated[
        float | None,
        Field(
            ge=MIN_WINDOW_SECONDS,
            allow_inf_nan=False,
            description="What the model sees at a time; clips that are longer are cut. Default: clips that are longer "
            "than the model takes are, into windows of 30 s or of what it takes.",
        ),
    ] = None
    context_seconds: ContextSeconds = None

    @field_validator("window_seconds", "context_seconds")
    @classmethod
    def _only_with_windows(cls, seconds: float | None, info: ValidationInfo) -> float | None:
        if seconds is not None and info.data.get("windows") == "none":
            raise ValueError("there are no windows with windows=none")
        return seconds


class EncodeOptions(WindowOptions):
    """Options of POST /v1/encode."""

    layer: Annotated[
        NonNegativeInt | Annotated[list[NonNegativeInt], Field(min_length=1, max_length=MAX_ITEMS)] | None,
        Field(description="One hidden state, or several; 0 is the encoder's input. Default: the last layer's output."),
    ] = None
    pooling: Annotated[
        Pooling,
        Field(
            description="How the frames become one vector. model: as the model itself pools them, the mean if it has "
            "no pooler. none: they stay; those of a clip that is cut into windows are sent window by window."
        ),
    ] = "none"
    normalize: Annotated[bool, Field(description="Scale each vector to length 1.")] = False
    encoding_format: Annotated[
        Literal["float", "base64"], Field(description="base64: of the little-endian values, in C order.")
    ] = "float"
    dtype: Annotated[
        DType,
        Field(
            description="float16: the values are rounded to it, in JSON too; what is beyond its largest number, 65504, "
            "becomes that."
        ),
    ] = "float32"
    times: Annotated[
        bool, Field(description="Return when each frame begins, in JSON; other media have the frame rate.")
    ] = False

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


class TranscribeOptions(WindowOptions):
    """Options of POST /v1/transcribe.

    A model either labels the frames (CTC), or writes the text token by token, which is what most of these are about.
    """

    timestamps: Annotated[
        Timestamps,
        Field(
            description="word: words with their times and confidence; char: characters too. Of models that label the "
            "frames (CTC)."
        ),
    ] = "none"
    beams: Annotated[
        PositiveInt | None,
        Field(
            description="Beginnings of the text that are kept at each token, or each frame. Default: the checkpoint's; "
            "CTC takes the best token of each frame, or 16 beams with hotwords."
        ),
    ] = None
    alternatives: Annotated[
        PositiveInt | None,
        Field(description="Return that many texts with their scores, best first: up to as many as there are beams."),
    ] = None
    temperature: Annotated[
        float | None,
        Field(ge=0, allow_inf_nan=False, description="From 0.001: tokens are drawn; 0: the best is taken."),
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
        Word | None, Field(description="Of the text, by a name that the model has. Default: the checkpoint's.")
    ] = None
    hotwords: Annotated[
        Word | Annotated[list[Word], Field(max_length=MAX_ITEMS)] | None,
        Field(
            description="Words or phrases that are likely to be said, in any case, several as a list. Of models that "
            "label the frames (CTC)."
        ),
    ] = None
    hotword_weight: Annotated[
        float | None,
        Field(
            ge=0,
            le=MAX_HOTWORD_WEIGHT,
            allow_inf_nan=False,
            description="What a hotword adds to the score of a text, which is a logarithm of a probability; a part of "
            "it for its beginning. Default: 10.",
        ),
    ] = None
    response_format: Annotated[
        ResponseFormat,
        Field(
            description="text: text/plain, one line for each clip; a line break in its text becomes a space. srt, vtt: "
            "application/x-subrip or text/vtt, of one clip. verbose_json: json with words and with segments that are "
            "as long as a subtitle. A model that writes texts has one segment for each window, and no words."
        ),
    ] = "json"


class ClassifyOptions(WindowOptions):
    """Options of POST /v1/classify."""

    timeline: Annotated[
        bool, Field(description="Return the labels of each window too, with its start and end; see window_seconds.")
    ] = False
    top_k: Annotated[PositiveInt, Field(description="How many labels; all, if there are fewer.")] = 5
    function: Annotated[
        ScoreFunction | None,
        Field(description="Default: none for regression, sigmoid for multi-label classification, else softmax."),
    ] = None
