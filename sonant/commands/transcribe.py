"""`sonant transcribe`: write what is said in audio files."""

from __future__ import annotations

from sonant.commands import runs
from sonant.commands.parsing import Commands


def add(commands: Commands) -> None:
    """Declare the command."""
    runs.declare(commands, "transcribe", "write what is said in audio files")
