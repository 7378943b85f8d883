from __future__ import annotations

import time
from pathlib import Path

import pytest

from sonant.doctor import isolation
from sonant.doctor.finding import Finding
from sonant.doctor.request import Job

CRASHES = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
FAILS = "import sys; sys.exit('Fatal: no such device')"
# A process of its own that holds on to what it was given, as a library's helper may.
HANGS = "import subprocess, time; subprocess.Popen(['sleep', '600']); time.sleep(600)"


def broken(folder: Path, monkeypatch: pytest.MonkeyPatch, **modules: str) -> None:
    """Put modules in place of those that are installed."""
    for name, code in modules.items():
        (folder / f"{name}.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def decode(seconds: float = 60) -> Finding:
    """Make a check that imports soundfile."""
    (found,) = isolation.run("decoders", Job("soundfile", {"library": "soundfile"}, seconds, mend="mend it"))
    return found


def test_findings_come_back_whatever_a_library_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(tmp_path, monkeypatch, soxr="print('noise')\n__version__ = '0'\ndef resample(x, *_, **__): return x[::3]\n")
    (found,) = isolation.run("decoders", Job("soxr", {"library": "soxr"}))
    assert found == Finding("soxr", "ok", "0 resamples")


def test_a_crash_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(tmp_path, monkeypatch, soundfile=CRASHES)
    found = decode()
    assert (found.status, found.mend) == ("problem", "mend it")
    assert found.found.startswith("it crashed (Segmentation fault)")


def test_an_end_is_a_problem_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(tmp_path, monkeypatch, soundfile=FAILS)
    assert decode() == Finding("soundfile", "problem", "it failed: Fatal: no such device", "mend it")


def test_nothing_is_waited_for_beyond_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(tmp_path, monkeypatch, soundfile=HANGS)
    begun = time.monotonic()
    found = decode(seconds=2)
    assert time.monotonic() - begun < 60  # not 600
    assert found == Finding("soundfile", "problem", "no answer within 2 s", "mend it")


def test_files_of_the_folder_are_not_taken_for_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "soundfile.py").write_text(CRASHES)
    monkeypatch.chdir(tmp_path)
    assert decode().status == "ok"
