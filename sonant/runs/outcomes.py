"""What comes of one file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sonant.runs.inputs import Input

Item = Mapping[str, Any]


@dataclass(frozen=True)
class Array:
    """An array of a clip: [frames, hidden], or [hidden] where it is pooled; `layer` is None for the last one."""

    values: NDArray[np.floating[Any]]
    layer: int | None
    frame_rate: float | None  # in Hz; None without a time axis

    @property
    def name(self) -> str:
        """What it is called in a file."""
        return "embedding" if self.layer is None else f"layer{self.layer}"


@dataclass(frozen=True)
class Outcome:
    """What comes of a file of `duration` seconds: what JSON says of it, its text in the format asked for, its arrays.

    Which of them there are is the task's: `encode` makes arrays, and `item` has what JSON says beside them.
    """

    duration: float
    item: Item = field(default_factory=dict)
    text: str = ""
    arrays: Sequence[Array] = ()

    def entry(self, encoding_format: str = "float", *, times: bool = False) -> Item:
        """Return what JSON says: of one array with the fields of the server's answer, of several in `data`.

        `times`: also when each frame begins.
        """
        described = [_described(one, encoding_format, times=times) for one in self.arrays]
        return {**(described[0] if len(described) == 1 else {"data": described} if described else {}), **self.item}


class Worker(Protocol):
    """What makes outcomes of files, any number of them at a time."""

    async def run(self, each: Input) -> Outcome:
        """Return what comes of a file. Raises FileError, or RunError where the others would fail too."""
        ...


def _described(one: Array, encoding_format: str, *, times: bool) -> Item:
    """Return the array as the answer of the server has it."""
    values = np.ascontiguousarray(one.values)
    return {
        **({} if one.layer is None else {"layer": one.layer}),
        "embedding": base64.b64encode(values.data).decode() if encoding_format == "base64" else values,
        "shape": values.shape,
        "frame_rate": one.frame_rate,
        **({"times": np.arange(len(values)) / one.frame_rate} if times and one.frame_rate else {}),
    }
