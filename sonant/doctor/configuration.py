"""The server's settings, as `sonant serve` would have them here, and what they ask of an engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from engines.runtimes import RuntimeOptions

if TYPE_CHECKING:
    from server.settings import Settings


def load(given: Mapping[str, str]) -> Settings:
    """Return the settings of `given`, the environment and the file.

    Raises ValueError with a line for each that cannot be, ImportError where the server is not installed.
    """
    from server.configuration import load as load_settings

    return load_settings(given)


def options(given: Mapping[str, str], model: str) -> RuntimeOptions:
    """Return how the server would run `model`; as by default where it is not installed, or its settings are wrong."""
    try:
        return load(given).options(model)
    except (ImportError, ValueError):
        return RuntimeOptions()
