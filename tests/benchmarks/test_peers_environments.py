from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.peers import environments
from benchmarks.peers.environments import PACKAGES, REQUIREMENTS, EnvironmentFailedError
from benchmarks.peers.roster import PEERS


class Calls:
    """Stands in for subprocess.run: remembers the commands, and makes what `pip list` would say."""

    def __init__(self) -> None:
        self.made: list[list[str]] = []
        self.problem = ""

    def __call__(self, command: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        self.made.append(list(command))
        if self.problem and "install" in command:
            raise subprocess.CalledProcessError(1, list(command), stderr=self.problem)
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)
        return subprocess.CompletedProcess(list(command), 0, stdout='[{"name": "Torch", "version": "2.0"}]')


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    (tmp_path / "peer.txt").write_text("# what it needs\ntorch==2.0\nother==1.0  # pinned\n")
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    calls = Calls()
    monkeypatch.setattr(subprocess, "run", calls)
    return calls


def quiet(_: str) -> None:
    """Say nothing of the progress."""


def test_an_environment_is_made_once_with_torch_first(calls: Calls, tmp_path: Path) -> None:
    said: list[str] = []
    made = environments.make("peer", tmp_path, said.append)
    assert made == environments.make("peer", tmp_path, said.append)
    venv, torch, rest, _ = calls.made
    assert venv[:3] == [sys.executable, "-m", "venv"]
    assert (torch[0], torch[-1]) == (str(made.python), "torch==2.0")
    assert rest[-1] == str(tmp_path / "peer.txt")
    assert said[0] == "Making the environment of peer"
    assert made.versions("torch", "numpy") == {"torch": "2.0"}


def test_other_requirements_are_another_environment(calls: Calls, tmp_path: Path) -> None:
    first = environments.make("peer", tmp_path, quiet)
    (tmp_path / "peer.txt").write_text("torch==2.1\n")
    assert environments.make("peer", tmp_path, quiet).python != first.python


def test_an_install_that_fails_is_reported_by_name_and_tried_again(calls: Calls, tmp_path: Path) -> None:
    calls.problem = "Collecting other\nERROR: No matching distribution found for other==1.0\nand a notice\n"
    with pytest.raises(EnvironmentFailedError, match=r"^peer: the install failed: No matching distribution .* other"):
        environments.make("peer", tmp_path, quiet)
    calls.problem = ""
    assert environments.make("peer", tmp_path, quiet).packages == {"torch": "2.0"}


def test_a_process_gets_its_threads_and_nothing_of_our_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    found = environments.environment(3, OWN="1")
    assert "PYTHONPATH" not in found
    assert (found["OMP_NUM_THREADS"], found["HF_HUB_OFFLINE"], found["OWN"]) == ("3", "1", "1")


def test_every_peer_has_pinned_requirements() -> None:
    for name in {peer.environment for peer in PEERS.values()}:
        lines = environments.lines(REQUIREMENTS / f"{name}.txt")
        assert lines
        assert all("==" in line for line in lines)


def test_packages_are_kept_beside_what_they_describe(calls: Calls, tmp_path: Path) -> None:
    made = environments.make("peer", tmp_path, quiet)
    assert json.loads((made.python.parent.parent / PACKAGES).read_text()) == made.packages
