from __future__ import annotations

import json

import pytest

from sonant.doctor.examination import Section
from sonant.doctor.finding import absent, ok, problem, warning
from sonant.doctor.report import as_json, as_text, print_tables, summary

SECTIONS = [
    Section("host", (ok("cores", "8"), warning("memory", "little", "buy some"))),
    Section("providers", (problem("onnxruntime/fp32 on cuda", "[red]no[/red]", "mend it"), absent("plan", "no GPU"))),
]


def test_json() -> None:
    report = json.loads(as_json(SECTIONS))
    assert report["sound"] is False
    assert report["checks"][1] == {
        "subject": "host",
        "name": "memory",
        "status": "warning",
        "found": "little",
        "mend": "buy some",
    }
    assert len(report["checks"]) == 4


def test_tables(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_tables(SECTIONS)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "",
        "host",
        "ok        cores   8",
        "warning   memory  little",
        "                  -> buy some",
        "",
        "providers",
        "problem   onnxruntime/fp32 on cuda  [red]no[/red]",
        "                                    -> mend it",
        "not here  plan                      no GPU",
    ]


def test_text_where_there_is_no_rich() -> None:
    assert as_text(SECTIONS).splitlines()[1:5] == [
        "host",
        "ok        cores: 8",
        "warning   memory: little",
        "          -> buy some",
    ]


@pytest.mark.parametrize(
    ("sections", "said"),
    [(SECTIONS, "1 problem, 1 warning"), (SECTIONS * 2, "2 problems, 2 warnings"), ([], "no problems, no warnings")],
)
def test_the_last_line(sections: list[Section], said: str) -> None:
    assert summary(sections) == said
