"""What a request can fail with. The status, type and code of an error are attributes of its class.

ApiError                                500 server_error           internal_error
|- RequestError                         400 invalid_request_error  request_invalid
|  |- BodyInvalidError                  400                        body_invalid
|  |- MessageInvalidError               400                        message_invalid
|  |- Base64InvalidError                400                        base64_invalid
|  |- AudioError (also ValueError)      400                        audio_invalid
|  |  |- AudioEmptyError                400                        audio_empty
|  |  |- AudioUndecodableError          400                        audio_undecodable
|  |  |- AudioTruncatedError            400                        audio_truncated
|  |  |- AudioNotFiniteError            400                        audio_not_finite
|  |  |- AudioTooShortError             400                        audio_too_short
|  |  |- AudioTimeoutError              400                        audio_timeout
|  |  `- AudioTooLongError              413                        audio_too_long
|  |- TaskNotSupportedError             400                        task_not_supported
|  |- ModelNotFoundError                404                        model_not_found
|  |- NotAcceptableError                406                        not_acceptable
|  |- BodyTimeoutError                  408                        body_timeout
|  |- HeadTimeoutError                  408                        head_timeout
|  |- StreamIdleError                   408                        stream_idle
|  |- BodyTooLargeError                 413                        body_too_large
|  |- TooManyClipsError                 413                        too_many_clips
|  |- TooManyFieldsError                413                        too_many_fields
|  |- RequestTooLargeError              413                        request_too_large
|  |- StreamTooLongError                413                        stream_too_long
|  |- MediaTypeError                    415                        media_type_not_supported
|  |- MessageTypeError                  415                        message_type_not_supported
|  |- HeadTooLargeError                 431                        head_too_large
|  |- TransferEncodingError             501                        transfer_encoding_not_supported
|  |- ModelLoadError                    422                        model_load_failed
|  `- OptionError                       422                        option_invalid
|     |- FieldUnknownError              422                        field_unknown
|     |- AudioMissingError              422                        audio_missing
|     |- ModelRequiredError             422                        model_required
|     `- OptionNotSupportedError        422                        option_not_supported
|- ApiKeyMissingError                   401 authentication_error   api_key_missing   + WWW-Authenticate
|- ApiKeyInvalidError                   401 authentication_error   api_key_invalid   + WWW-Authenticate
|- AccessDeniedError                    403 permission_error       access_denied
|- QueueFullError                       429 rate_limit_error       queue_full        + Retry-After
|  `- WaitTooLongError                  429                        wait_too_long     + Retry-After
|- MemoryFullError                      429 rate_limit_error       memory_full       + Retry-After
|- EngineFailedError                    500 server_error           engine_failed
|  `- EngineMemoryError                 500                        engine_out_of_memory
|- StorageError                         500 server_error           storage_failed
|- ModelNotReadyError                   503 server_error           model_not_ready   + Retry-After while it loads
|- ModelReplacedError                   503 server_error           model_replaced
|- ShuttingDownError                    503 server_error           shutting_down     + Retry-After
|- EngineHungError                      503 server_error           engine_hung       + Retry-After
|- TooManyConnectionsError              503 server_error           too_many_connections + Retry-After
|- DecoderUnavailableError              503 server_error           decoder_unavailable + Retry-After
|- DeadlineError                        504 timeout_error          deadline_exceeded
`- StorageFullError                     507 server_error           storage_full
"""

from __future__ import annotations

from collections.abc import Iterator

INVALID_REQUEST = "invalid_request_error"
# What a message repeats of a client's word: enough to recognise it, whatever the client sends.
QUOTED_CHARACTERS = 100


class ApiError(Exception):
    """The request failed in a way that no other code says; the log says more.

    `param` is the field at fault, `retry_after` the seconds after which it may succeed.
    """

    status = 500
    type = "server_error"
    code = "internal_error"

    def __init__(self, message: str, param: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param if param is None else _cut(param)
        self.retry_after = retry_after


class RequestError(ApiError):
    """The request is at fault, in a way that no other code says."""

    status = 400
    type = INVALID_REQUEST
    code = "request_invalid"


class BodyInvalidError(RequestError):
    """The body is not the JSON or multipart that its content type says."""

    code = "body_invalid"


class MessageInvalidError(RequestError):
    """A text message of a stream is not the JSON that it must be."""

    code = "message_invalid"


class Base64InvalidError(RequestError):
    """`input` is not base64."""

    code = "base64_invalid"


class AudioError(RequestError, ValueError):
    """The audio cannot be used."""

    code = "audio_invalid"


class AudioEmptyError(AudioError):
    """No bytes, or no samples in them."""

    code = "audio_empty"


class AudioUndecodableError(AudioError):
    """Not audio of a format that is read."""

    code = "audio_undecodable"


class AudioTruncatedError(AudioError):
    """The stream breaks off before the length that it states."""

    code = "audio_truncated"


class AudioNotFiniteError(AudioError):
    """Samples are NaN, infinite or absurdly large."""

    code = "audio_not_finite"


class AudioTooShortError(AudioError):
    """Shorter than the engine's shortest clip."""

    code = "audio_too_short"


class AudioTimeoutError(AudioError):
    """Decoding took longer than one file may."""

    code = "audio_timeout"


class AudioTooLongError(AudioError):
    """Longer than the engine's longest clip."""

    status = 413
    code = "audio_too_long"


class TaskNotSupportedError(RequestError):
    """The model does not serve the task."""

    code = "task_not_supported"


class ModelNotFoundError(RequestError):
    """There is no model of that name."""

    status = 404
    code = "model_not_found"


class NotAcceptableError(RequestError):
    """The answer cannot be given in a form that `Accept` names."""

    status = 406
    code = "not_acceptable"


class BodyTimeoutError(RequestError):
    """The body did not arrive in time."""

    status = 408
    code = "body_timeout"


class HeadTimeoutError(RequestError):
    """The head did not arrive in time."""

    status = 408
    code = "head_timeout"


class StreamIdleError(RequestError):
    """The client of a stream has sent no audio for too long."""

    status = 408
    code = "stream_idle"


class HeadTooLargeError(RequestError):
    """The head has too many bytes."""

    status = 431
    code = "head_too_large"


class BodyTooLargeError(RequestError):
    """The body has too many bytes."""

    status = 413
    code = "body_too_large"


class TooManyClipsError(RequestError):
    """The request has too many clips."""

    status = 413
    code = "too_many_clips"


class TooManyFieldsError(RequestError):
    """The request has too many fields, or values in them."""

    status = 413
    code = "too_many_fields"


class RequestTooLargeError(RequestError):
    """What the request holds, or its answer would, is more than all requests together may."""

    status = 413
    code = "request_too_large"


class StreamTooLongError(RequestError):
    """The stream, or its audio, is longer than the server takes."""

    status = 413
    code = "stream_too_long"


class MediaTypeError(RequestError):
    """The content type is none of those that are read."""

    status = 415
    code = "media_type_not_supported"


class MessageTypeError(RequestError):
    """A message of a stream is audio where it must be text, or text where it must be audio."""

    status = 415
    code = "message_type_not_supported"


class TransferEncodingError(RequestError):
    """The body is encoded otherwise than in chunks."""

    status = 501
    code = "transfer_encoding_not_supported"


class ModelLoadError(RequestError):
    """The engine that was to be loaded is not what it must be, or this host cannot run it."""

    status = 422
    code = "model_load_failed"


class OptionError(RequestError):
    """An option has a value that it cannot have."""

    status = 422
    code = "option_invalid"


class FieldUnknownError(OptionError):
    """There is no field of that name."""

    code = "field_unknown"


class AudioMissingError(OptionError):
    """The request has no audio."""

    code = "audio_missing"


class ModelRequiredError(OptionError):
    """The task has no default model: the request must name one."""

    code = "model_required"


class OptionNotSupportedError(OptionError):
    """The option exists, but cannot be honoured."""

    code = "option_not_supported"


class ApiKeyMissingError(ApiError):
    """The request has no key, and needs one."""

    status = 401
    type = "authentication_error"
    code = "api_key_missing"


class ApiKeyInvalidError(ApiError):
    """No such key."""

    status = 401
    type = "authentication_error"
    code = "api_key_invalid"


class AccessDeniedError(ApiError):
    """The key is for something else, or no key opens what is asked for."""

    status = 403
    type = "permission_error"
    code = "access_denied"


class QueueFullError(ApiError):
    """More audio waits than the queue holds."""

    status = 429
    type = "rate_limit_error"
    code = "queue_full"


class WaitTooLongError(QueueFullError):
    """What waits already would keep the request waiting beyond its deadline."""

    code = "wait_too_long"


class MemoryFullError(ApiError):
    """The requests in progress hold all that they may."""

    status = 429
    type = "rate_limit_error"
    code = "memory_full"


class EngineFailedError(ApiError):
    """The engine raised, or gave outputs that are not finite."""

    code = "engine_failed"


class EngineMemoryError(EngineFailedError):
    """The engine has not enough memory for this clip, even alone."""

    code = "engine_out_of_memory"


class ModelNotReadyError(ApiError):
    """The model is loading, failed to load, or is unloaded."""

    status = 503
    code = "model_not_ready"


class ModelReplacedError(ApiError):
    """The model of a stream has been replaced or unloaded, and the time to end on it is over."""

    status = 503
    code = "model_replaced"


class TooManyConnectionsError(ApiError):
    """No more connections are taken."""

    status = 503
    code = "too_many_connections"


class ShuttingDownError(ApiError):
    """The server finishes what it has and takes nothing new."""

    status = 503
    code = "shutting_down"


class EngineHungError(ApiError):
    """The engine does not come back from a call; the process ends, so that its supervisor starts another."""

    status = 503
    code = "engine_hung"


class DecoderUnavailableError(ApiError):
    """No process that decodes could be started."""

    status = 503
    code = "decoder_unavailable"


class DeadlineError(ApiError):
    """The request was not done within its `timeout`."""

    status = 504
    type = "timeout_error"
    code = "deadline_exceeded"


class StorageError(ApiError):
    """What is stored cannot be read."""

    code = "storage_failed"


class StorageFullError(ApiError):
    """An upload, or what it is decoded to, could not be written to the disk."""

    status = 507
    code = "storage_full"


def codes(error: type[ApiError] = ApiError) -> Iterator[str]:
    """Yield the code of `error`, and those of all that it covers."""
    yield error.code
    for child in error.__subclasses__():
        yield from codes(child)


def quoted(word: str) -> str:
    """Return what a message says where it repeats `word` of a client: in quotes, and no more than its beginning."""
    return repr(_cut(word))


def _cut(word: str) -> str:
    return word if len(word) <= QUOTED_CHARACTERS else word[:QUOTED_CHARACTERS] + "..."
