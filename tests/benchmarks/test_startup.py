from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import record
from benchmarks.records.startup import DEMO, Startup
from benchmarks.startup import command, imports
from benchmarks.startup.launch import launched

LOG = """\
import time: self [us] | cumulative | imported package
import time:       100 |        100 |     email.parser
import time:      2000 |       2100 |   server.app
import time:       500 |        500 |   server.routes.encode
{"level": "info", "message": "import time: never"}
import time:        50 |         50 | _io
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Startup:
    output = tmp_path_factory.mktemp("startup") / "startup.json"
    assert command.main(["--quick", "--output", str(output)]) == 0
    result = record.read(output)
    assert isinstance(result, Startup)
    return result


def test_a_start_is_measured(found: Startup) -> None:
    [cell] = found.cells
    assert cell.engines == ("hubert-ctc-english",)
    [start] = cell.starts
    assert 0 < start.listening_seconds <= start.ready_seconds
    assert start.cpu_seconds > 0
    assert start.first_seconds > 0
    assert start.next_seconds > 0
    assert 3 < cell.weights_mib < 4
    assert start.anonymous_mib > cell.weights_mib / 2
    assert start.file_mib > 10  # libraries
    assert start.idle_mib < start.peak_mib + 1
    assert cell.times_weights == pytest.approx(start.idle_mib / cell.weights_mib)
    header, [row] = found.table
    assert len(header) == len(row)


def test_imports_are_accounted_for(found: Startup) -> None:
    assert {"server", "fastapi", "onnxruntime", imports.STANDARD} <= set(found.imports)
    assert list(found.imports.values()) == sorted(found.imports.values(), reverse=True)
    [(_, (_, rows))] = found.tables
    assert len(rows) == 10
    assert rows[0][0] == next(iter(found.imports))


def test_modules_are_added_up_by_package() -> None:
    assert imports.by_package(LOG) == {"server": 2.5, imports.STANDARD: 0.15}
    accounts = [{"a": 1.0, "b": 5.0}, {"a": 3.0}, {"a": 2.0, "b": 1.0}]
    assert command.middle(accounts) == {"a": 2.0, "b": 1.0}


def test_promises(found: Startup) -> None:
    assert found.promises == ()  # neither the demo as a whole nor of base size
    [cell] = found.cells
    [start] = cell.starts
    slow = start.model_copy(update={"ready_seconds": 2.1})
    demo = cell.model_copy(update={"what": DEMO, "starts": (slow,)})
    large = cell.model_copy(
        update={"weights_mib": 400.0, "starts": (start.model_copy(update={"anonymous_mib": 400.0, "file_mib": 50.0}),)}
    )
    missed, kept = found.model_copy(update={"cells": (demo, large)}).promises
    assert (missed.kept, missed.promised, missed.found) == (False, "at most 2 s", "2.10 s (worst 2.10)")
    assert (kept.kept, kept.found) == (True, "1.12x")


def test_a_server_that_does_not_start_says_why() -> None:
    message = r"(?s)did not become ready.*toaster"
    with launched({}, 1, {"device": "toaster"}) as server, pytest.raises(ValueError, match=message):
        server.ready()


def test_the_demo_is_all_of_its_engines() -> None:
    assert {Path(name).name for name in command.demo()} >= {"hubert-ctc-english", "ast-sound-events"}
