"""A folder of engines: `MODELS/NAME/`, or `MODELS/NAME/VERSION/` where the newest version is the one that is used."""

from __future__ import annotations

from pathlib import Path

from engines.errors import EngineNotFoundError
from engines.manifest import MANIFEST_NAME


def find_engines(models: Path) -> dict[str, Path]:
    """Return the engine folders below `models` by name, sorted. Folders that begin with a dot are not looked at.

    A version is a folder named by a whole number. Raises EngineNotFoundError if `models` does not exist.
    """
    if not models.is_dir():
        raise EngineNotFoundError(f"{models} is not a folder: name one that holds engines with --models")
    found: dict[str, Path] = {}
    for folder in sorted(path for path in models.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if (folder / MANIFEST_NAME).is_file():
            found[folder.name] = folder
            continue
        versions = [path for path in folder.iterdir() if path.name.isdecimal() and (path / MANIFEST_NAME).is_file()]
        if versions:
            found[folder.name] = max(versions, key=lambda path: int(path.name))
    return found
