from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from sonant import doctor
from sonant.doctor import isolation
from sonant.doctor.examination import SUBJECTS, Section, examine, is_sound
from sonant.doctor.finding import Finding, absent, ok, problem, warning
from sonant.doctor.request import Job, Request


def test_every_subject_is_a_module_that_says_its_checks() -> None:
    for subject in SUBJECTS:
        module = importlib.import_module(f"{doctor.__name__}.{subject}")
        assert all(job.mend and job.seconds > 0 for job in module.jobs(Request()))


def test_checks_run_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []

    def run(subject: str, job: Job) -> list[Finding]:
        steps.append(job.name)
        return [ok(job.name, subject)]

    monkeypatch.setattr(isolation, "run", run)
    sections = list(examine(Request(), ("clock", "decoders"), steps.append))
    assert steps == ["Looking at clock", "clock", "Looking at decoders", "soundfile", "soxr"]
    assert sections[1] == Section("decoders", (ok("soundfile", "decoders"), ok("soxr", "decoders")))


def test_a_subject_that_cannot_be_imported_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sonant.doctor.clock", None)
    ((found,),) = (section.findings for section in examine(Request(), ("clock",)))
    assert (found.status, "force-reinstall" in found.mend) == ("problem", True)


@pytest.mark.parametrize(
    ("finding", "sound"),
    [(ok("", ""), True), (warning("", "", ""), True), (absent("", ""), True), (problem("", "", ""), False)],
)
def test_only_problems_count(finding: Finding, sound: bool) -> None:
    assert is_sound([Section("a", (ok("", ""), finding))]) is sound


def test_the_process_that_reports_loads_no_library_that_could_end_it() -> None:
    code = "import sys, sonant.doctor.examination, sonant.doctor.report; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "sonant.doctor.isolation" in loaded
    assert not loaded & {"onnxruntime", "openvino", "tensorrt", "cuda", "soundfile", "numpy"}
