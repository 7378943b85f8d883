"""Every family as the tests see it: how to write a random checkpoint of it, of any configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hypothesis import strategies as st

from export.exportable import Options


class Write(Protocol):
    """Writes a checkpoint with random weights, every one perturbed."""

    def __call__(self, folder: Path, architecture: str, seed: int = 0, **config: Any) -> Path:
        """Write a checkpoint of `architecture` into `folder` and return it; `config` overrides the small defaults."""
        ...


@dataclass(frozen=True)
class Specimen:
    """One configuration that a test names."""

    architecture: str
    config: dict[str, Any] = field(default_factory=dict)
    options: Options = field(default_factory=Options)


@dataclass(frozen=True)
class Kind:
    """A family."""

    name: str
    architectures: tuple[str, ...]
    write: Write
    configurations: st.SearchStrategy[dict[str, Any]]  # any shape that transformers accepts, small
    longest: Callable[[dict[str, Any], int], int]  # (configuration, shortest) -> samples of a clip that is quick to run
    edges: Specimen  # narrow, with the strides of the published checkpoints
    edge_lengths: tuple[int, ...]  # every length around the edges of its first and some later frames
    seconds: tuple[int, ...]  # long clips
    exports: dict[str, Specimen]  # two or three real exports of a class in every run of the tests, by their names


def kinds() -> dict[str, Kind]:
    """Return every family by its name."""
    from tests.zoo import ast, hubert, sew, speech_encoder_decoder, usm, wav2vec2

    return {
        kind.name: kind
        for kind in (ast.KIND, hubert.KIND, sew.KIND, wav2vec2.KIND, usm.KIND, speech_encoder_decoder.KIND)
    }
