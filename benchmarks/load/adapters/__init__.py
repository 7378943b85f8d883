"""How servers are asked: one module for each kind of them, and the names that `--adapter` knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from benchmarks.load.adapters.base import Adapter
from benchmarks.load.adapters.openai import OpenAI
from benchmarks.load.adapters.raw import Raw
from benchmarks.load.adapters.sonant import Sonant
from benchmarks.load.adapters.triton import Triton

ADAPTERS: Mapping[str, type[Adapter]] = {"sonant": Sonant, "openai": OpenAI, "raw": Raw, "triton": Triton}


def make(name: str, options: Mapping[str, str]) -> Adapter:
    """Return the adapter of this name; ValueError for an option that it does not have, or a value that it does not."""
    kind = ADAPTERS[name]
    known = [field.name for field in fields(kind)]
    if unknown := options.keys() - set(known):
        raise ValueError(f"the adapter {name} has no option {', '.join(sorted(unknown))}: it has {', '.join(known)}")
    return kind(**options)
