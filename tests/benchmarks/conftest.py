from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import record
from benchmarks.engines import latency, layers
from benchmarks.records.latency import Latency
from benchmarks.records.speed import Layers


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both commands find the one tiny engine that the first of them exports."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def results(cache: Path) -> Path:
    """A folder with a quick run of each benchmark, by way of its command."""
    folder = cache / "results"
    for name, main in (("layers", layers.main), ("latency", latency.main)):
        assert main(["--quick", "--cache", str(cache), "--output", str(folder / f"{name}.json")]) == 0
    return folder


@pytest.fixture(scope="session")
def latency_record(results: Path) -> Latency:
    result = record.read(results / "latency.json")
    assert isinstance(result, Latency)
    return result


@pytest.fixture(scope="session")
def layers_record(results: Path) -> Layers:
    result = record.read(results / "layers.json")
    assert isinstance(result, Layers)
    return result
