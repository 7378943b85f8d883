"""What is asked of the doctor, and the pieces that it is cut into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Of a check that loads no model: it takes well under a second, and a host that is short of everything ten times that.
SECONDS = 30.0


@dataclass(frozen=True)
class Request:
    """What to look at beside the host: folders of engines or the server's, and whether to replay their golden clips."""

    engines: tuple[Path, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)  # of the server, as its flags: models, config
    verify: bool = False


@dataclass(frozen=True)
class Job:
    """One check: what stands in the report if nothing comes back from it, and within how many seconds it must."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)  # of `check`, as JSON has them
    seconds: float = SECONDS
    mend: str = "run it again; if it stays so, reinstall sonant in a new environment"
