"""What the messages of /v1/stream say, both ways; audio itself is sent as binary messages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat

from server.audio.decode import SAMPLE_RATES_HZ
from server.schemas.answers import Usage, WordItem
from server.schemas.options import MIN_WINDOW_SECONDS, ContextSeconds, Word

Encoding = Literal["pcm16", "float32"]


class StreamOptions(BaseModel):
    """The first message. Unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["start"]
    model: Annotated[
        Word | None, Field(description="Name of the model; the default of transcribe if absent or empty.")
    ] = None
    sample_rate: Annotated[
        int, Field(ge=SAMPLE_RATES_HZ[0], le=SAMPLE_RATES_HZ[-1], description="Of what is sent, in Hz; one channel.")
    ] = 16_000
    encoding: Annotated[
        Encoding, Field(description="pcm16: 16-bit integers; float32: from -1 to 1; both little-endian.")
    ] = "pcm16"
    window_seconds: Annotated[
        float | None,
        Field(
            ge=MIN_WINDOW_SECONDS,
            allow_inf_nan=False,
            description="What the model sees at a time. A text is final when its window is complete. Default: 8, or "
            "what the model takes.",
        ),
    ] = None
    context_seconds: ContextSeconds = None
    interim: Annotated[
        float | None,
        Field(
            ge=0,
            allow_inf_nan=False,
            description="Seconds of new audio after which the text of the window in progress is sent; 0: never. "
            "Default: 1, and never with a model that writes token by token.",
        ),
    ] = None
    timestamps: Annotated[Literal["none", "word"], Field(description="Whether final texts have their words.")] = "none"
    language: Annotated[
        Word | None, Field(description="Of the text, by a name that the model has. Default: the checkpoint's.")
    ] = None


class StreamEnd(BaseModel):
    """What the client sends after its audio."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["end"]


class StreamReady(BaseModel):
    """The first message of the server: audio is taken, with these options."""

    type: Literal["ready"] = "ready"
    model: str
    sample_rate: int
    encoding: Encoding
    window_seconds: float
    context_seconds: float
    interim: Annotated[float, Field(description="0: never.")]
    timestamps: Literal["none", "word"]
    language: str | None


class StreamText(BaseModel):
    """A piece of the text. The pieces are put together as they are: spaces between them stand at their beginnings."""

    text: str
    start: Annotated[NonNegativeFloat, Field(description="Seconds from the beginning of the stream.")]
    end: NonNegativeFloat


class StreamPartial(StreamText):
    """What follows the final texts, as it is understood so far; the next partial or final text takes its place."""

    type: Literal["partial"] = "partial"


class StreamFinal(StreamText):
    """A text that does not change any more; it may be empty."""

    type: Literal["final"] = "final"
    confidence: float | None
    words: list[WordItem] | None = None


class StreamDone(BaseModel):
    """The last message: all audio has its final text."""

    type: Literal["done"] = "done"
    usage: Usage
