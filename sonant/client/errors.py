"""What a client's call can fail with.

ClientError
|- UploadError (also ValueError)             the audio cannot be sent
|- ConnectionFailedError (also ConnectionError)  no answer: nobody listens, or the connection broke
|- TimedOutError (also TimeoutError)         no answer in time
|- AnswerError                               an answer that is not one of this server
`- StatusError                               the server refused or failed, and says why
   |- AuthenticationError                    401, 403
   |- NotFoundError                          404
   |- RateLimitError                         429
   |- RequestRefusedError                    any other 4xx
   `- ServerError                            5xx
"""

from __future__ import annotations


class ClientError(Exception):
    """A call failed; `is_temporary` where it may succeed when it is repeated."""

    is_temporary = False
    retry_after: float | None = None  # seconds, as the server says


class UploadError(ClientError, ValueError):
    """The audio cannot be sent."""


class ConnectionFailedError(ClientError, ConnectionError):
    """Nobody listens, or the connection broke before the whole answer was there."""

    is_temporary = True


class TimedOutError(ClientError, TimeoutError):
    """No answer in time; the server may still work on it."""


class AnswerError(ClientError):
    """An answer that is not one of this server: there is something else at the address."""


class StatusError(ClientError):
    """The server answered with an error.

    `status` is that of HTTP, `code` the kind of error, `param` the field at fault where there is one; the server's log
    has the rest under `request_id`.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        type_: str | None = None,
        code: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.type = type_
        self.code = code
        self.param = param
        self.request_id = request_id
        self.retry_after = retry_after
        # Where the server itself says 503 and not when to come again, to come again does not help: a model failed to
        # load. What stands before it, such as a proxy, says no code.
        self.is_temporary = status == 429 or (status == 503 and (retry_after is not None or code is None))

    def __str__(self) -> str:
        """Return the message, with what names the error and the request."""
        known = [f"status {self.status}", self.code, f"request {self.request_id}" if self.request_id else None]
        return f"{self.message} ({', '.join(word for word in known if word)})"


class AuthenticationError(StatusError):
    """No key, a wrong key, or one that is for something else."""


class NotFoundError(StatusError):
    """There is no such model, or no such path."""


class RateLimitError(StatusError):
    """The server has as much to do as it takes."""


class RequestRefusedError(StatusError):
    """The request is at fault: its audio, an option, the model that it names."""


class ServerError(StatusError):
    """The server failed."""


def error_class(status: int) -> type[StatusError]:
    """Return the class of an answer's `status`."""
    named = {401: AuthenticationError, 403: AuthenticationError, 404: NotFoundError, 429: RateLimitError}
    return named.get(status) or (ServerError if status >= 500 else RequestRefusedError)
