"""The clips of an evaluation: a file with a line of JSON for each, and what is to be said of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath

from pydantic import BaseModel, ConfigDict, ValidationError

from sonant.runs.errors import UsageError
from sonant.runs.inputs import Input

SUFFIXES = (".jsonl", ".ndjson")


class Entry(BaseModel):
    """A line: the path of a clip, from the file's folder, and one or several of the others. More is left unread."""

    model_config = ConfigDict(frozen=True)

    audio: str
    text: str | None = None  # that is said, or that a translator should write
    label: str | None = None
    group: str | None = None  # of the clips that are alike, such as those that say one word
    speaker: str | None = None  # whose other clips are no neighbours in the measure of groups


@dataclass(frozen=True)
class Data:
    """Clips with their answers, in the order of the file."""

    name: str
    clips: dict[Input, Entry]

    @property
    def entries(self) -> list[Entry]:
        """The lines."""
        return list(self.clips.values())


def read(path: Path) -> Data:
    """Read a file, or the one that a folder has. Raises UsageError."""
    file = _file_in(path) if path.is_dir() else path
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    clips: dict[Input, Entry] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            entry = _entry(line, f"{file}, line {number}")
            clip = Input(file.parent / entry.audio, PurePath(entry.audio))
            if clip in clips:
                raise UsageError(f"{file}, line {number}: {entry.audio} stands there twice")
            clips[clip] = entry
    if not clips:
        raise UsageError(f"{file} has no clips")
    return Data(path.resolve().name if path.is_dir() else path.stem, clips)


def _file_in(folder: Path) -> Path:
    found = [path for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES]
    if len(found) != 1:
        raise UsageError(f"{folder} has {len(found)} files that end in {' or '.join(SUFFIXES)}: name one")
    return found[0]


def _entry(line: str, where: str) -> Entry:
    try:
        return Entry.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise UsageError(f"{where}: {field}{': ' * bool(field)}{first['msg']}") from None
