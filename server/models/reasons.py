"""Why a model is not served, as clients are told: nothing of where things are on this host."""

from __future__ import annotations

import re
from pathlib import Path

from engines.errors import EngineError
from server.errors import ApiError

# The folders of an absolute path, such as that of a library that is named in an error.
FOLDERS = re.compile(r"(?<![\w.~])/(?:[^\s/:;,'\"()\[\]]+/)+")


def reason(error: Exception, models: Path) -> str:
    """Return what `error` says, its files named from the folder `models` on; the log has the rest.

    What was not foreseen may say anything: it is in the log only.
    """
    if isinstance(error, ApiError):
        return error.message
    if not isinstance(error, EngineError):
        return "an unexpected error; the server's log has it"
    return without_folders(str(error), models)


def without_folders(text: str, models: Path) -> str:
    """Return `text` with its files named from the folder `models` on, and others by their last part."""
    for folder in dict.fromkeys((models.resolve(), models.absolute(), models)):
        text = re.sub(rf"(?<![\w./-]){re.escape(str(folder))}/", "", text)
    return FOLDERS.sub("", text)
