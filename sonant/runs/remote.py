"""The files of a run, asked of a server one by one, some at a time."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from server.decoding.transcript import Piece, Transcript
from server.formats.documents import DOCUMENTS
from sonant.client import (
    AsyncClient,
    Audio,
    AuthenticationError,
    Classification,
    ClientError,
    Encoding,
    StatusError,
    TimedOutError,
    Transcription,
    UploadError,
    calls,
)
from sonant.client.calls import Call
from sonant.client.results import Result
from sonant.runs.errors import FileError, RunError, UsageError
from sonant.runs.inputs import Input
from sonant.runs.outcomes import Array, Item, Outcome

# A server that is full is asked again, since a run is in no hurry; one that is not there for so long, in seconds, is
# not awaited any more.
RETRIES, RETRY_SECONDS = 1000, 600.0
# For one answer, in seconds: hours of audio take minutes.
ANSWER_SECONDS = 3600.0
# Of requests that others would be refused with too, whatever their audio; the server's own words are "bad request",
# "not acceptable" and the like.
OF_THE_RUN = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.METHOD_NOT_ALLOWED})
OF_THE_RUN_CODES = frozenset({"task_not_supported"})

# Options of how JSON is written, which is done here.
OURS = frozenset({"encoding_format", "times"})

Options = Mapping[str, Any]


class Remote:
    """A server."""

    def __init__(self, client: AsyncClient, ask: Callable[[Audio], Call[Any]], make: Callable[[Any], Outcome]) -> None:
        self._client = client
        self._ask = ask
        self._make = make

    async def run(self, each: Input) -> Outcome:
        """See Worker."""
        try:
            return self._make(await self._client.run(self._ask(_audio(each))))
        except UploadError as error:
            raise FileError("file_unreadable", str(error)) from error
        except TimedOutError as error:
            raise FileError("answer_timeout", str(error)) from error
        except StatusError as error:
            raise _of(error) from error
        except ClientError as error:
            raise RunError(str(error)) from error


@asynccontextmanager
async def connected(task: str, options: Options, url: str, key: str | None) -> AsyncIterator[Remote]:
    """Give the server at `url`, once it has answered. Raises UsageError, or RunError where it is not there."""
    ask, make = TASKS[task]
    wished = {name: value for name, value in options.items() if name not in OURS}
    wished.update(_as_json(options) if task == "transcribe" else {})
    try:
        client = AsyncClient(url, key=key, timeout=ANSWER_SECONDS, retries=RETRIES, retry_seconds=RETRY_SECONDS)
    except ValueError as error:
        raise UsageError(f"--url: {error}") from None
    async with client:
        try:
            async with AsyncClient(url, key=key, retries=0) as first:  # who misspells the address learns it at once
                await first.models()
        except ClientError as error:
            raise _unreachable(error) from error
        yield Remote(client, lambda audio: ask(audio, None, wished), lambda found: make(found, options))


def _unreachable(error: ClientError) -> Exception:
    if isinstance(error, AuthenticationError):
        return UsageError(f"{error.message}: set SONANT_API_KEY to a key of the server, or --key")
    return RunError(f"{error}; is the server there, at --url?")


def _of(error: StatusError) -> Exception:
    """Return what an answer means: that the file is at fault, or what was asked for, or the server."""
    if isinstance(error, AuthenticationError):
        return _unreachable(error)
    if error.status in OF_THE_RUN or error.code in OF_THE_RUN_CODES:
        return UsageError(error.message)
    if error.is_temporary or error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        return RunError(str(error))
    return FileError(error.code or f"status_{error.status}", error.message)


def _audio(each: Input) -> Audio:
    return sys.stdin.buffer if each.is_standard_input else each.path


def _encoded(found: list[Encoding], options: Options) -> Outcome:
    arrays = [Array(one.array, one.layer, one.frame_rate) for one in found]
    first = found[0]
    return Outcome(first.duration, {"duration": first.duration, "windows": first.windows}, arrays=arrays)


def _transcribed(found: Transcription, options: Options) -> Outcome:
    item = _item(found)
    document = DOCUMENTS.get(options.get("response_format", "json"))
    if document is None:
        return Outcome(found.duration, item)
    segments = tuple(_piece(one) for one in item.get("segments") or ())
    return Outcome(
        found.duration, item, document.write(Transcript(found.text, found.confidence, segments=segments or None))
    )


def _classified(found: Classification, options: Options) -> Outcome:
    return Outcome(found.duration, _item(found))


def _item(found: Result) -> Item:
    return {name: value for name, value in found.model_dump(exclude_unset=True).items() if name != "index"}


def _piece(item: Mapping[str, Any]) -> Piece:
    return Piece(item["text"], item["start"], item["end"], item.get("confidence"))


def _as_json(options: Options) -> dict[str, Any]:
    """Ask for what subtitles are made of: they are written here."""
    wished = options.get("response_format", "json")
    return {"response_format": "verbose_json" if wished in ("srt", "vtt", "verbose_json") else "json"}


TASKS: dict[str, tuple[Callable[[Audio, int | None, Options], Call[Any]], Callable[[Any, Options], Outcome]]] = {
    "encode": (calls.encode, _encoded),
    "transcribe": (calls.transcribe, _transcribed),
    "classify": (calls.classify, _classified),
}
