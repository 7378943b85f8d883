"""A folder of engines: `MODELS/NAME/`, or `MODELS/NAME/VERSION/` where the newest version is the one that is used.

A version is a folder of its own, and complete when it appears: copy it under a name that begins with a dot, then rename
it. Names are text that can be printed, in any script: they stand in answers, addresses, metrics and log lines. Folders
whose names have line breaks, other control or invisible characters, or bytes that are not UTF-8 are passed over, with a
warning.

Files of an engine that is loaded must not be overwritten: its weights are mapped into memory, so that what it
computes would change, and a file that is cut short ends the process. To delete or to rename them is safe.
"""

from __future__ import annotations

import logging
from pathlib import Path

from engines import host
from engines.engine import Engine
from engines.errors import EngineNotFoundError
from engines.manifest import MANIFEST_NAME
from engines.warm import warm_up

logger = logging.getLogger(__name__)

FileStates = dict[str, tuple[int, ...] | None]  # by name: which file it is, its size and when it was changed; or none


def find_engines(models: Path) -> dict[str, Path]:
    """Return the engine folders below `models` by name, sorted. Folders that begin with a dot are not looked at.

    A version is a folder named by a whole number. What cannot be read is among them: to open it says why. Raises
    EngineNotFoundError if `models` does not exist.
    """
    if not models.is_dir():
        raise EngineNotFoundError(f"{models} is not a folder: name one that holds engines with --models")
    found: dict[str, Path] = {}
    for folder in sorted(path for path in models.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if not folder.name.isprintable():  # as bytes that are not UTF-8 are not either
            logger.warning("a folder is passed over, since its name cannot be printed: %s", ascii(folder.name))
            continue
        try:
            newest = _newest(folder)
        except OSError:
            newest = folder
        if newest is not None:
            found[folder.name] = newest
    return found


def _newest(folder: Path) -> Path | None:
    if (folder / MANIFEST_NAME).is_file():
        return folder
    versions = [path for path in folder.iterdir() if path.name.isdecimal() and (path / MANIFEST_NAME).is_file()]
    return max(versions, key=lambda path: int(path.name), default=None)


def load(engine: Engine) -> int:
    """Load and verify what requests need first; return the size of its files in bytes. Raises EngineError.

    The replay of the golden clips, alone and as a batch, is what warms it up; a GPU gets larger batches beside them.
    """
    try:
        graphs = engine.load_first()
        warm_up(engine)
        return engine.file_bytes(graphs)
    except BaseException:
        engine.close()
        raise
    finally:
        host.trim()


def state_of_files(engine: Engine) -> FileStates:
    """Return what tells whether somebody has touched a file of `engine`."""
    generation = engine.manifest.generation
    files = {MANIFEST_NAME, engine.manifest.golden.file, *([generation.tokenizer] if generation else [])}
    files.update(file for graph in engine.graphs for file in graph.sha256)
    return {file: _state(engine.folder / file) for file in files}


def _state(file: Path) -> tuple[int, ...] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def unload(engine: Engine) -> None:
    """Give the memory of `engine`, which nobody uses any more, back to the system."""
    engine.close()
    host.trim()
