"""What is measured: a checkpoint and the engine made of it, kept in a cache outside the checkout."""

from __future__ import annotations

import gc
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import recipes
from benchmarks.machine import ROOT, versions
from engines.batch import Clip
from engines.engine import Engine
from engines.errors import EngineError
from engines.manifest import Manifest
from engines.runtimes import RuntimeOptions
from export import checkpoint as checkpoints
from export.exporter import export

# What the configurations of encoders call the number of their layers.
DEPTHS = ("num_hidden_layers", "conf_num_hidden_layers")


@dataclass(frozen=True)
class Subject:
    """A checkpoint and its engine."""

    name: str
    checkpoint: checkpoints.Checkpoint
    folder: Path  # the engine's
    manifest: Manifest

    def engine(self, threads: int) -> Engine:
        """Open the engine on the CPU; it verifies each graph when it is first used."""
        return Engine(self.folder, options=RuntimeOptions("cpu", threads))


def default_cache() -> Path:
    """Return the folder in the user's cache where checkpoints and engines are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sonant" / "benchmarks"


def prepare(
    model: str, checkpoint: str | None, layers: Iterable[int] | None, cache: Path, progress: Callable[[str], None]
) -> Subject:
    """Return `checkpoint`, or else the random one of the recipe `model`, with an engine that has graphs for `layers`.

    None stands for the front end alone, and a quarter, half and three quarters of the layers. An engine in the cache
    is used again unless the exporter, the versions or the checkpoint have changed. Raises ExportError or EngineError.
    """
    found = checkpoints.resolve(checkpoint or str(recipes.make(model, cache / "checkpoints", progress)))
    variant = None if checkpoint else recipes.RECIPES[model].variant
    wanted = set(_quarters(found.config) if layers is None else layers)
    folder = cache / "engines" / f"{found.name}-{found.sha256[:12]}"
    key = json.dumps({"exporter": sources(), "versions": versions(), "checkpoint": found.sha256})
    manifest = _cached(folder, key)
    present = {graph.layers for graph in manifest.graphs} - {manifest.num_layers} if manifest else set()
    if manifest is None or not wanted <= present:
        truncated = sorted(wanted | present)
        export(str(found.folder), folder, variant=variant, layers=truncated, force=True, progress=progress)
        _key_file(folder).write_text(key, encoding="utf-8")
        manifest = Manifest.read(folder)
        gc.collect()  # what the export leaves must not weigh on the measurement
    return Subject(found.name, found, folder, manifest)


def clips(count: int, seconds: float, sample_rate: int, seed: int) -> list[Clip]:
    """Return `count` different clips of noise with a slow swell: time does not depend on what is said."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    swell = 1.0 + 0.8 * np.sin(2 * np.pi * 1.5 * time)
    return [(0.1 * swell * generator.standard_normal(time.size)).astype(np.float32) for _ in range(count)]


def _quarters(config: Any) -> set[int]:
    """Return the layers after none, a quarter, half and three quarters of those of an encoder."""
    total = next(getattr(config, name) for name in DEPTHS if hasattr(config, name))
    return {total * quarter // 4 for quarter in range(4)}


def _cached(folder: Path, key: str) -> Manifest | None:
    """Return the manifest of the engine in `folder` if it is there and was made by this exporter."""
    try:
        if _key_file(folder).read_text(encoding="utf-8") == key:
            return Manifest.read(folder)
    except (OSError, EngineError):
        pass
    return None


def _key_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.key")


def sources() -> str:
    """Return a hash of what makes an engine: an old one must not be measured in a new one's place."""
    total = hashlib.sha256()
    schema = [ROOT / "engines" / name for name in ("manifest.py", "parts.py")]
    for path in (*sorted((ROOT / "export").rglob("*.py")), *schema):
        total.update(path.read_bytes())
    return total.hexdigest()
