"""The options of each task."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, field_validator

# Longer than any name, and any list, that makes sense: what is beyond is not looked at.
MAX_CHARACTERS = 256
MAX_ITEMS = 256

Word = Annotated[str, Field(max_length=MAX_CHARACTERS)]
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


class EncodeOptions(Options):
    """Options of POST /v1/encode."""

    layer: Annotated[
        NonNegativeInt | Annotated[list[NonNegativeInt], Field(min_length=1, max_length=MAX_ITEMS)] | None,
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
        Word | Annotated[list[Word], Field(max_length=MAX_ITEMS)] | None, Field(description="Not supported.")
    ] = None
    response_format: Annotated[
        Literal["json", "text"],
        Field(description="text: text/plain, one line for each clip; a line break in its text becomes a space."),
    ] = "json"


class ClassifyOptions(Options):
    """Options of POST /v1/classify."""

    top_k: Annotated[PositiveInt, Field(description="How many labels; all, if there are fewer.")] = 5
    function: Annotated[
        ScoreFunction | None,
        Field(description="Default: none for regression, sigmoid for multi-label classification, else softmax."),
    ] = None
    windows: Windows = "auto"
