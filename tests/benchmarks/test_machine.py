from __future__ import annotations

import platform
from pathlib import Path

import pytest

from benchmarks import machine


def test_the_machine_is_described() -> None:
    host = machine.describe()
    assert host.cpu
    assert 1 <= host.usable_cores <= host.cores
    assert host.memory_gib > 0
    assert set(host.flags) <= set(machine.FLAGS)
    assert machine.Machine.model_validate_json(host.model_dump_json()) == host


def test_versions_name_what_was_measured() -> None:
    found = machine.versions()
    assert {"torch", "transformers", "onnxruntime", "python"} <= set(found) <= {*machine.PACKAGES, "python"}
    assert found["python"] == platform.python_version()


def test_a_folder_without_git_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    assert machine.commit() is None
