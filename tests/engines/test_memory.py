from __future__ import annotations

import sys
from pathlib import Path

import pytest

from engines import memory
from engines.engine import Engine
from engines.errors import RuntimeUnavailableError
from engines.manifest import Graph
from engines.memory import SHARE, UNMEASURED, Memory, RowMemory
from engines.runtimes import RuntimeOptions

ENGINE = Path(__file__).parents[2] / "demo" / "engines" / "hubert-ctc-english"


def test_rows_are_fewer_than_in_proportion_to_their_length() -> None:
    limited = Memory(RuntimeOptions(batch_bytes=1_000_000))
    limited.row = RowMemory(1000, 100)
    assert [limited.rows(seconds) for seconds in (1, 10, 100, 1000)] == [909, 50, 0, 0]


def test_the_limit_is_a_share_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = iter([10**9, 10**6])
    monkeypatch.setattr("engines.host.free_memory", lambda: next(asked))
    free = Memory()
    free.row = RowMemory(1000, 0)
    assert free.rows(1) == SHARE * 10**6
    assert free.rows(2) == SHARE * 10**6 / 2  # not asked again so soon
    monkeypatch.setattr(memory, "REFRESH_SECONDS", 0)
    assert free.rows(1) == SHARE * 10**3


def test_on_a_gpu_it_is_what_was_free_when_the_weights_were_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.runtimes.cuda.free_memory", lambda number: 10**6)
    monkeypatch.setattr("engines.host.free_memory", lambda: 10**9)
    free = Memory()
    free.row = RowMemory(1000, 0)
    free.loaded("cpu", 10)
    assert free.rows(1) == SHARE * 10**6
    free.loaded("cuda", 10)
    assert free.rows(1) == SHARE * 10**3


def test_the_gpu_that_is_used_is_asked_and_its_limit_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.runtimes.cuda.free_memory", {0: 10**6, 2: 10**8}.get)
    limited = Memory(RuntimeOptions(device_id=2, device_bytes=10**7))
    limited.row = RowMemory(1000, 0)
    limited.loaded("cuda", 10)
    assert limited.rows(1) == 10**4
    assert limited.rows(10) == 10**3


def test_what_the_arena_has_taken_is_not_missing_when_another_graph_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = iter([10**6, 10**3])
    monkeypatch.setattr("engines.runtimes.cuda.free_memory", lambda number: next(asked))
    free = Memory()
    free.row = RowMemory(1000, 0)
    free.loaded("cuda", 10)
    free.loaded("cuda", 200_000)
    assert free.rows(1) == SHARE * 800
    free.loaded("cuda", 10**9)
    assert free.rows(1) == 0


def test_a_host_that_cannot_be_asked_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = iter([10**6, None, 10**3])
    monkeypatch.setattr("engines.host.free_memory", lambda: next(asked))
    monkeypatch.setattr(memory, "REFRESH_SECONDS", 0)
    free = Memory()
    free.row = RowMemory(1000, 0)
    assert [free.rows(1) for _ in range(3)] == [SHARE * 1000, SHARE * 1000, 0]


def test_where_nobody_knows_there_is_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.host.free_memory", lambda: None)
    assert Memory().rows(60) == sys.maxsize


def test_an_engine_takes_one_row_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.host.free_memory", lambda: 0)
    assert Engine(ENGINE).max_rows(16_000) == 1


def test_an_engine_counts_by_what_it_was_told() -> None:
    engine = Engine(ENGINE, options=RuntimeOptions(batch_bytes=2**30))
    before = engine.max_rows(160_000)
    assert before == 2**30 // (UNMEASURED.of(10))
    engine.tune(1, RowMemory(2**20, 0))
    assert engine.max_rows(160_000) == 102


def test_rows_that_are_not_independent_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Graph, "rows", lambda graph, samples: 1)
    assert Engine(ENGINE).max_rows(16_000) == 1


def test_an_engine_that_is_closed_loads_nothing_again() -> None:
    engine = Engine(ENGINE, options=RuntimeOptions("cpu", 1))
    assert engine.device is None
    session = engine.load(engine.full_graph)
    assert engine.load(engine.full_graph) is session
    assert engine.device == "cpu"
    engine.close()
    assert engine.device is None
    with pytest.raises(RuntimeUnavailableError, match="was unloaded"):
        engine.load(engine.full_graph)
