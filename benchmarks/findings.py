"""What a record has to say in the summary at the top of the page: `sonant bench report` puts it there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

# What is gained over what else one could run; where nothing is; how far it is from what the hardware can do.
Kind = Literal["gain", "loss", "limit"]


@dataclass(frozen=True)
class Finding:
    """A sentence with figures; as few as possible of each record."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class Promise:
    """A figure that must be on the right side of another."""

    what: str
    promised: str  # such as "at most 2 s"
    found: str
    kept: bool


@runtime_checkable
class Telling(Protocol):
    """A record with findings."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What it has found."""
        ...


@runtime_checkable
class Promising(Protocol):
    """A record that tells whether promises are kept."""

    @property
    def promises(self) -> tuple[Promise, ...]:
        """The promises, with what was found."""
        ...
