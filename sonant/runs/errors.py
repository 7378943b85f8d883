"""What ends a run, and what only one of its files fails with."""

from __future__ import annotations


class UsageError(Exception):
    """What was asked for cannot be: the exit status is 2."""


class RunError(Exception):
    """The run cannot go on, whatever the file: the exit status is 1."""


class FileError(Exception):
    """One file fails; `code` is that of the server's table of errors, or `file_unreadable`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
