"""What the records of all benchmarks share."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from benchmarks.machine import Machine

Table = tuple[list[str], list[list[str]]]  # header and rows, as the terminal and the report show them


class Model(BaseModel):
    """A part of a record."""

    # "NaN" where there was nothing to measure; null could not be read again.
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class Run(Model):
    """What every record says of its run."""

    model: str  # the name of a recipe, or the checkpoint's name
    parameters: int
    threads: int
    seed: int
    date: str  # UTC, ISO 8601
    commit: str | None
    machine: Machine
    versions: dict[str, str]


@runtime_checkable
class Detailed(Protocol):
    """A record with more tables than one."""

    @property
    def tables(self) -> tuple[tuple[str, Table], ...]:
        """The others, each with what it shows."""
        ...
