"""What OpenAI's clients send to and expect from /v1/audio, by the types of its Python client 3.52.

A parameter of theirs that cannot be honoured is refused by name, unless its value asks for nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, Field

from server.schemas.options import MAX_ITEMS, Options, ResponseFormat, TranscribeOptions, Word

# A prompt may be long, and is only looked at to refuse it.
Unread = Annotated[str | None, Field(description="Not supported.")]


def _as_list(value: Any) -> Any:
    """Return a list, where a form has one value."""
    return [value] if isinstance(value, str) else value


Words = Annotated[list[Word], Field(max_length=MAX_ITEMS), BeforeValidator(_as_list)]


class SpeechOptions(Options):
    """What both of the routes take. `model` is a name of this server, or one that it has for another."""

    unsupported: ClassVar[tuple[str, ...]] = ("prompt",)

    language: Annotated[
        Word | None, Field(description="Of the text, by a name that the model has. Default: the checkpoint's.")
    ] = None
    prompt: Unread = None
    response_format: Annotated[
        ResponseFormat, Field(description="json and verbose_json; text/plain, application/x-subrip or text/vtt.")
    ] = "json"
    temperature: Annotated[
        float | None,
        Field(ge=0, allow_inf_nan=False, description="From 0.001: tokens are drawn; 0: the best is taken."),
    ] = None

    @property
    def refused(self) -> str | None:
        """The first option that has a value and is not supported."""
        return next((name for name in self.unsupported if getattr(self, name)), None)

    def task(self) -> TranscribeOptions:
        """Return what the task is asked for."""
        return TranscribeOptions(
            language=self.language,
            temperature=self.temperature,
            response_format=self.response_format,
        )


class TranslationOptions(SpeechOptions):
    """Options of POST /v1/audio/translations; `language` is ours, for a model that writes several."""


class TranscriptionOptions(SpeechOptions):
    """Options of POST /v1/audio/transcriptions."""

    unsupported: ClassVar[tuple[str, ...]] = (
        "prompt",
        "include",
        "languages",
        "known_speaker_names",
        "known_speaker_references",
    )

    timestamp_granularities: Annotated[
        Annotated[list[Literal["word", "segment"]], Field(max_length=2), BeforeValidator(_as_list)] | None,
        Field(description="What verbose_json has; words have times with CTC only. Default: segment."),
    ] = None
    stream: Annotated[
        bool, Field(description="Send the text as server-sent events, window by window. With json or text.")
    ] = False
    keywords: Annotated[Words | None, Field(description="Words that are likely to be said; with CTC only.")] = None
    chunking_strategy: Annotated[
        Literal["auto"] | None, Field(description="auto: long audio is cut into windows, as it is without.")
    ] = None
    include: Annotated[Words | None, Field(description="Not supported.")] = None
    languages: Annotated[Words | None, Field(description="Not supported.")] = None
    known_speaker_names: Annotated[Words | None, Field(description="Not supported.")] = None
    known_speaker_references: Annotated[
        Annotated[list[str], BeforeValidator(_as_list)] | None, Field(description="Not supported.")
    ] = None

    @property
    def granularities(self) -> list[Literal["word", "segment"]]:
        """The parts of verbose_json."""
        return self.timestamp_granularities or ["segment"]

    def task(self) -> TranscribeOptions:
        """Return what the task is asked for."""
        return super().task().model_copy(update={"hotwords": self.keywords or None})


class DurationUsage(BaseModel):
    """What was processed."""

    type: Literal["duration"]
    seconds: float


class SpeechAnswer(BaseModel):
    """The answer as json."""

    text: str
    usage: DurationUsage


class SpeechWord(BaseModel):
    """A word; times are seconds from the beginning of the clip."""

    word: str
    start: float
    end: float


class SpeechSegment(BaseModel):
    """A part of the text that is as long as a subtitle; of a model that writes texts, what it wrote of one window."""

    id: int
    seek: Annotated[int, Field(description="Its start, in hundredths of a second.")]
    start: float
    end: float
    text: str
    tokens: Annotated[list[int], Field(description="Always empty.")]
    temperature: float
    avg_logprob: Annotated[float, Field(description="Logarithm of the confidence; 0 where there is none.")]
    compression_ratio: Annotated[float, Field(description="Bytes of the text by those that zlib makes of it.")]
    no_speech_prob: Annotated[float, Field(description="Always 0: no model here tells it.")]


class VerboseSpeechAnswer(SpeechAnswer):
    """The answer as verbose_json."""

    task: Literal["transcribe", "translate"]
    language: Annotated[str, Field(description="As asked for, or und: undetermined, as of ISO 639-2.")]
    duration: float
    words: Annotated[list[SpeechWord] | None, Field(description="With timestamp_granularities=word.")] = None
    segments: Annotated[list[SpeechSegment] | None, Field(description="Unless only words are asked for.")] = None


class DeltaEvent(BaseModel):
    """More of the text. All of them, one after the other, are the text."""

    type: Literal["transcript.text.delta"]
    delta: str


class DoneEvent(BaseModel):
    """The whole text; the last event."""

    type: Literal["transcript.text.done"]
    text: str
