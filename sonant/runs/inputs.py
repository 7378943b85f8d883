"""Files, folders and patterns -> the files of a run, each with its place in the tree that outputs mirror."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from sonant.runs.errors import UsageError

# Of what libsndfile reads: files of a folder are audio by their suffix. A file that is named itself may have any.
SUFFIXES = frozenset(
    {".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".w64", ".wav"}
)
STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Input:
    """A file: where it is, and where it stands below the folder that all files of the run have in common.

    `path` is shown as it was named. Standard input is "-".
    """

    path: Path
    relative: PurePath

    @property
    def is_standard_input(self) -> bool:
        """Whether it is no file, but what is piped in."""
        return str(self.path) == STANDARD_INPUT


def collect(arguments: Sequence[str]) -> list[Input]:
    """Return the files of `arguments`, each once and in their order; folders sorted by name.

    Raises UsageError where an argument names nothing, or no audio.
    """
    found: dict[str, Path] = {}
    for argument in arguments:
        for path in _expand(argument):
            found.setdefault(argument if argument == STANDARD_INPUT else _absolute(path), path)
    files = [Path(absolute) for absolute in found if absolute != STANDARD_INPUT]
    folders = [Path(_absolute(one)) for one in map(Path, arguments) if one.is_dir()]
    root = os.path.commonpath([*(file.parent for file in files), *folders]) if files else ""
    return [
        Input(path, PurePath("stdin") if absolute == STANDARD_INPUT else Path(absolute).relative_to(root))
        for absolute, path in found.items()
    ]


def stems(inputs: Sequence[Input]) -> Mapping[Input, PurePath]:
    """Return the place of each file's output without its suffix, no two alike.

    It is the file's own without its suffix. Where two differ in nothing else, such as a.wav and a.flac, both keep it.
    """
    short = {one: one.relative.with_suffix("") for one in inputs}
    times = Counter(short.values())
    chosen = {one: stem if times[stem] == 1 else one.relative for one, stem in short.items()}
    if len(set(chosen.values())) < len(inputs):  # a.wav, a.flac and a.wav.mp3
        return {one: one.relative for one in inputs}
    return chosen


def _absolute(path: Path) -> str:
    """Return the full path, without its `..`; links are not followed, so that a tree of them is mirrored as one."""
    return os.path.abspath(path)  # noqa: PTH100


def _expand(argument: str) -> Iterator[Path]:
    path = Path(argument)
    if argument == STANDARD_INPUT or path.is_file():
        yield path
    elif path.is_dir():
        yield from _audio_in(path)
    elif path.exists():
        raise UsageError(f"{argument} is neither a file nor a folder")
    elif glob.has_magic(argument):
        yield from _matches(argument)
    else:
        raise UsageError(f"there is no file or folder {argument}")


def _matches(pattern: str) -> Iterator[Path]:
    matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  # a pattern may be absolute
    if not matches:
        raise UsageError(f"nothing matches {pattern}")
    for match in map(Path, matches):
        if match.is_file():
            yield match
        elif match.is_dir() and not pattern.endswith("**"):  # which matches what is below it already
            yield from _audio_in(match)


def _audio_in(folder: Path) -> Iterator[Path]:
    """Yield the audio files below `folder`. Names that begin with a dot are passed over, linked folders not entered."""

    def refuse(error: OSError) -> None:
        raise UsageError(f"{error.filename} cannot be read: {error.strerror}")

    is_empty = True
    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(parent, name)
            is_special = path.exists() and not path.is_file()  # such as a pipe, which might never end
            if not name.startswith(".") and path.suffix.lower() in SUFFIXES and not is_special:
                is_empty = False
                yield path
    if is_empty:
        raise UsageError(f"there is no audio in {folder}: looked for {' '.join(sorted(SUFFIXES))}")
