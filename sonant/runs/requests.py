"""What a command line asks for, checked as far as that is possible before anything is loaded."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from server.formats.documents import DOCUMENTS
from server.schemas.options import ClassifyOptions, EncodeOptions, Options, TranscribeOptions
from sonant.runs import flags
from sonant.runs.destinations import LINES, Form, Wish
from sonant.runs.errors import UsageError
from sonant.runs.inputs import STANDARD_INPUT, Input, collect
from sonant.runs.outcomes import Outcome

Task = Literal["transcribe", "encode", "classify"]

SCHEMAS: Mapping[Task, type[Options]] = {
    "transcribe": TranscribeOptions,
    "encode": EncodeOptions,
    "classify": ClassifyOptions,
}
# Of the server's settings, those that are flags here too; what comes out depends on the form.
FORM = ("runtime", "precision", "max_error")
SETTINGS = ("models", *FORM, "device", "device_ids", "threads", "workers", "decoders", "cache")


@dataclass(frozen=True)
class Server:
    """Who does it, where it is not this process."""

    url: str
    key: str | None
    connections: int


@dataclass(frozen=True)
class Request:
    """A run: `options` as they were given, `settings` of this process; `server` where one does it."""

    task: Task
    inputs: Sequence[Input]
    options: Mapping[str, Any]
    wish: Wish
    form: Form
    settings: Mapping[str, Any]
    server: Server | None
    quiet: bool

    @property
    def description(self) -> Mapping[str, Any]:
        """What outcomes depend on: those of two runs that differ in it do not belong together."""
        form = {name: value for name, value in self.settings.items() if name in FORM}
        options = {name: value for name, value in self.options.items() if name != "timeout"} | form
        return {"task": self.task, "format": self.form.suffix, **options}

    @classmethod
    def of(cls, task: Task, arguments: argparse.Namespace, key: str | None) -> Request:
        """Return what `arguments` ask for; `key` is that of the environment. Raises UsageError."""
        options = flags.read(SCHEMAS[task], arguments)
        if task == "transcribe":
            options = _with_format(options, arguments.output)
        if task == "encode":
            _check_json(options, arguments)
        inputs = collect(arguments.paths)
        is_single = len(arguments.paths) == 1 and (
            arguments.paths[0] == STANDARD_INPUT or Path(arguments.paths[0]).is_file()
        )
        settings = {name: getattr(arguments, name) for name in SETTINGS}
        settings = {name: value for name, value in settings.items() if value is not None}
        server = None
        if arguments.url is not None:
            if settings:
                raise UsageError(f"{flags.flag(next(iter(settings)))} is of this process, not of a server: --url")
            server = Server(arguments.url, arguments.key or key, max(1, arguments.connections))
        return cls(
            task,
            inputs,
            options,
            Wish(arguments.output, arguments.beside, arguments.overwrite, is_single),
            _form(task, options, getattr(arguments, "format", None)),
            settings,
            server,
            arguments.quiet,
        )


def _with_format(options: dict[str, Any], output: Path | None) -> dict[str, Any]:
    """Return `options` with the format that the name of `output` tells, where none was asked for."""
    told = {document.suffix: name for name, document in DOCUMENTS.items()}
    if output is None or "response_format" in options or output.suffix not in told:
        return options
    return {**options, "response_format": told[output.suffix]}


def _check_json(options: Mapping[str, Any], arguments: argparse.Namespace) -> None:
    """Raise UsageError for options that say how JSON is written where there is none."""
    is_json = not arguments.beside and (arguments.output is None or arguments.output.suffix in LINES)
    for name in ("encoding_format", "times"):
        if options.get(name) and not is_json:
            raise UsageError(f"{flags.flag(name)} is of JSON; files of arrays have a frame rate, and no text")
    if options.get("times") and options.get("pooling", "none") != "none":
        raise UsageError("--times are of frames: leave it out, or ask for --pooling none")


def _form(task: Task, options: Mapping[str, Any], arrays: Literal["npz", "safetensors"] | None) -> Form:
    if task == "encode":
        encoding, times = options.get("encoding_format", "float"), options.get("times", False)
        return Form.of_arrays(arrays or "npz", lambda outcome: outcome.entry(encoding, times=times))
    document = DOCUMENTS.get(options.get("response_format", "json"))
    return Form.of_text(document.suffix) if document else Form.of_json(Outcome.entry)
