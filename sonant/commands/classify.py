"""`sonant classify`: say what audio files are."""

from __future__ import annotations

from sonant.commands import runs
from sonant.commands.parsing import Commands


def add(commands: Commands) -> None:
    """Declare the command."""
    runs.declare(commands, "classify", "say what audio files are")
