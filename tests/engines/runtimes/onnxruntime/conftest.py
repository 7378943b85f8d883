from __future__ import annotations

import pytest

from engines.runtimes import pinned


@pytest.fixture(autouse=True)
def _pinned_memory_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver of ours, and the memory that it pins, is there for one test only."""
    monkeypatch.setattr(pinned, "memory", pinned.PinnedMemory())
