"""What is asked of a server and how its answer is read: the same for both clients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import httpx
from pydantic import ValidationError

from sonant.client import tensors
from sonant.client.errors import (
    AnswerError,
    ClientError,
    ConnectionFailedError,
    TimedOutError,
    UploadError,
    error_class,
)
from sonant.client.results import Classification, Encoding, Model, Transcription
from sonant.client.uploads import Audio, Upload

T = TypeVar("T")

Task: TypeAlias = Literal["encode", "transcribe", "classify"]
# Of an answer that is not this server's, in an error message.
MAX_QUOTED = 200
# What reading an answer fails with that is not this server's: JSON may be another, or nested without end, or none.
NOT_OURS = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and what makes its answer a result."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    params: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] | None = None
    upload: Upload | None = None
    timeout: float = 0.0  # seconds that the server is given

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be sent twice; nothing on the server is changed by it."""
        return self.upload is None or self.upload.is_repeatable

    @property
    def arguments(self) -> dict[str, Any]:
        """What httpx is asked, beside the body."""
        headers = dict(self.headers or {})
        if self.upload is not None and self.upload.size is not None:
            headers["Content-Length"] = str(self.upload.size)
        return {"method": self.method, "url": self.path, "params": self.params, "headers": headers}


def encode(audio: Audio, sample_rate: int | None, options: Mapping[str, Any]) -> Call[list[Encoding]]:
    """Ask for an encoding for each layer of `options`, in that order."""
    return _task("encode", audio, sample_rate, options, tensors.read, accept=tensors.MEDIA)


def transcribe(audio: Audio, sample_rate: int | None, options: Mapping[str, Any]) -> Call[Transcription]:
    """Ask for the text of a clip."""
    return _task("transcribe", audio, sample_rate, options, lambda response: _only(response, Transcription))


def render(audio: Audio, sample_rate: int | None, options: Mapping[str, Any]) -> Call[str]:
    """Ask for the text of a clip in the `response_format` of `options`, as the server writes it."""
    return _task("transcribe", audio, sample_rate, options, lambda response: response.text)


def classify(audio: Audio, sample_rate: int | None, options: Mapping[str, Any]) -> Call[Classification]:
    """Ask for the labels of a clip."""
    return _task("classify", audio, sample_rate, options, lambda response: _only(response, Classification))


def models() -> Call[list[Model]]:
    """Ask for all models."""
    return Call("GET", "v1/models", lambda response: [_parse(Model, item) for item in _data(response)])


def _task(
    task: Task,
    audio: Audio,
    sample_rate: int | None,
    options: Mapping[str, Any],
    read: Callable[[httpx.Response], T],
    accept: str = "application/json",
) -> Call[T]:
    """Send the audio itself as the body, so that it streams, with the options in the query."""
    headers = {"Content-Type": "application/octet-stream", "Accept": accept}
    upload = Upload.of(audio, sample_rate)
    return Call("POST", f"v1/{task}", read, tuple(_params(options)), headers, upload, options.get("timeout") or 0.0)


def _params(options: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Yield names and values; a list repeats its name, and None asks for nothing."""
    for name, value in options.items():
        several = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        for one in several:
            if one is not None:
                yield name, str(one).lower() if isinstance(one, bool) else str(one)


def check(response: httpx.Response) -> None:
    """Raise StatusError unless `response`, which was read, is of status 200; AnswerError for a redirection."""
    if response.status_code == httpx.codes.OK:
        return
    if not response.is_error:
        where = response.headers.get("location", "nowhere")
        raise AnswerError(f"status {response.status_code} in place of an answer; the address points to {where}")
    error = _envelope(response)
    raise error_class(response.status_code)(
        error.get("message") or response.text[:MAX_QUOTED] or response.reason_phrase,
        status=response.status_code,
        type_=error.get("type"),
        code=error.get("code"),
        param=error.get("param"),
        request_id=response.headers.get("x-request-id"),
        retry_after=_retry_after(response.headers.get("retry-after")),
    )


def failure(error: httpx.HTTPError | httpx.InvalidURL, url: str) -> ClientError:
    """Return what a client raises for `error`."""
    said = str(error) or type(error).__name__
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return TimedOutError(f"{url} does not answer in time ({type(error).__name__})")
    if isinstance(error, httpx.LocalProtocolError):
        return UploadError(f"the request cannot be sent: {said}")
    if isinstance(error, httpx.TransportError) and not isinstance(error, httpx.UnsupportedProtocol):
        return ConnectionFailedError(f"no connection to {url}: {said}")
    return AnswerError(f"{url}: {said}")


def _envelope(response: httpx.Response) -> dict[str, str]:
    """Return what an error says of itself; nothing where it is not as of this server."""
    try:
        error = response.json()["error"].items()
    except NOT_OURS:
        return {}
    return {name: value for name, value in error if isinstance(value, str)}


def _retry_after(value: str | None) -> float | None:
    """Return the seconds that the header says, which may be a date; None where it says nothing that can be read."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):  # not a date, or one without a time zone
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _data(response: httpx.Response) -> list[Any]:
    try:
        data = response.json()["data"]
    except NOT_OURS:
        raise _not_ours(response) from None
    if not isinstance(data, list):
        raise _not_ours(response)
    return data


ModelT = TypeVar("ModelT", Transcription, Classification, Model)


def _only(response: httpx.Response, kind: type[ModelT]) -> ModelT:
    data = _data(response)
    if len(data) != 1:
        raise _not_ours(response)
    return _parse(kind, data[0])


def _parse(kind: type[ModelT], item: Any) -> ModelT:
    try:
        return kind.model_validate(item)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise AnswerError(f"the answer is not a {kind.__name__}: {where}: {first['msg']}") from None


def _not_ours(response: httpx.Response) -> AnswerError:
    return AnswerError(f"the answer is not one of a Sonant server: {response.text[:MAX_QUOTED]!r}")
