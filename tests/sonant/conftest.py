from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.process import serving

ENGINES = Path(__file__).parents[2] / "demo/engines"


@pytest.fixture(scope="session")
def demo_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two engines that were trained: one transcribes, one classifies."""
    folder = tmp_path_factory.mktemp("demo-models")
    for name in ("hubert-ctc-english", "sew-commands-english"):
        (folder / name).symlink_to(ENGINES / name)
    return folder


@pytest.fixture(scope="session")
def demo_server(demo_models: Path) -> Iterator[str]:
    """The address of the real server with these engines."""
    with serving(demo_models) as running:
        yield f"http://127.0.0.1:{running.port}"
