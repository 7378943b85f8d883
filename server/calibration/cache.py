"""Calibrations that are kept: a JSON file for each host and engine, in the cache directory."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from engines import host, runtimes
from engines.engine import Engine
from engines.runtimes import RuntimeOptions
from server.calibration import Calibration

logger = logging.getLogger(__name__)

# Changes with what is measured or how: files of another are not found.
SCHEMA_VERSION = 4

Key = dict[str, object]  # what a measurement holds for
# Of RuntimeOptions, what a measurement depends on; flags of `sonant calibrate`.
OPTIONS = (
    *("device", "device_id", "device_bytes", "conv_search", "cuda_graphs"),
    *("runtime", "precision", "max_error", "threads"),
)


class Entry(BaseModel):
    """The contents of a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: Key
    calibration: Calibration


def key_of(engine: Engine, options: RuntimeOptions, workers: int) -> Key:
    """Return what a measurement of `engine` depends on; `workers` are those that are given, 0 where none are.

    It asks the runtime and the GPU, which takes a moment the first time. Raises RuntimeUnavailableError.
    """
    graphs = [graph for form in engine.forms.usable for graph in form.graphs]
    names = {graph.runtime for graph in graphs}
    return {
        "schema_version": SCHEMA_VERSION,
        "processor": host.processor(),
        "cores": host.cores(),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round((host.memory() or 0) / 2**30),
        "runtimes": {name: runtimes.find(name).describe(options.device, options.device_id) for name in sorted(names)},
        "graphs": {file: sha256 for graph in graphs for file, sha256 in sorted(graph.sha256.items())},
        "options": {name: getattr(options, name) for name in OPTIONS},
        "workers": workers,
    }


class Cache:
    """The calibrations below a cache directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "calibration"

    def path(self, key: Key) -> Path:
        """Return the file of `key`."""
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return self._folder / f"{digest[:32]}.json"

    def read(self, key: Key) -> Calibration | None:
        """Return what was measured for `key`; None if nothing was, or with a warning if it cannot be read."""
        path = self.path(key)
        try:
            entry = Entry.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            logger.warning("%s is not used: %s", path, str(error).splitlines()[0])
            return None
        if entry.key != key:
            logger.warning("%s is not used: it was measured for something else", path)
            return None
        return entry.calibration

    def write(self, key: Key, calibration: Calibration) -> None:
        """Keep `calibration`; who reads at the same time sees all of it or nothing. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        text = Entry(key=key, calibration=calibration).model_dump_json(indent=1)
        handle, name = tempfile.mkstemp(dir=self._folder, prefix=".", suffix=".json")
        partial = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text + "\n")
            partial.replace(self.path(key))
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
