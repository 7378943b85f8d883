"""The command, and what it keeps: on engines that were trained, and clips that they hear right."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import soundfile

from engines.forms import Form
from engines.manifest import BASE, MANIFEST_NAME, Manifest, Quality
from sonant.cli import main
from sonant.evaluation import evaluate as module
from sonant.evaluation.data import read
from sonant.evaluation.evaluate import Evaluated, evaluate, keep
from sonant.runs.errors import RunError
from sonant.runs.inputs import Input
from sonant.runs.outcomes import Outcome
from tests.sonant.evaluation.test_data import write

DEMO = Path(__file__).parents[3] / "demo"
OTHER = "onnxruntime/int8"
FLAGS = {"threads": 1, "workers": 1}
RECORDINGS = sorted((DEMO / "audio").glob("*.flac"))[:4]


def spoken(path: Path) -> dict[str, str]:
    return {"audio": str(path), "text": path.with_suffix(".txt").read_text()}


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """An engine with two more forms: one is fp32 under another name, one is of use on a GPU only."""
    folder = Path(shutil.copytree(DEMO / "engines" / "hubert-ctc-english", tmp_path / "engine"))
    data = json.loads((folder / MANIFEST_NAME).read_text())
    full = data["graphs"][0]
    data["graphs"].append(full | {"name": "int8", "precision": "int8", "devices": ["cpu"]})
    data["graphs"].append(full | {"name": "bf16", "precision": "bf16", "devices": ["cuda"]})
    (folder / MANIFEST_NAME).write_text(json.dumps(data))
    return folder


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Recordings that are heard right, but that the last line says other words of."""
    entries = [spoken(path) for path in RECORDINGS]
    entries[-1]["text"] = "one two three"
    return write(tmp_path / "held-out" / "clips.jsonl", *entries).parent


def qualities(folder: Path) -> dict[str, tuple[Quality, ...]]:
    return {graph.name: graph.quality for graph in Manifest.read(folder).graphs}


def test_the_command_measures_every_form_and_keeps_it(
    engine: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", str(engine), str(clips), "--threads=1", "--workers=1"]
    assert main(command) == 0
    out, err = capsys.readouterr()
    words = [len(path.with_suffix(".txt").read_text().split()) for path in RECORDINGS]
    assert words[-1] > 3  # what is heard, none of it in what the line says
    rate = words[-1] / (sum(words[:-1]) + 3)
    assert [line.split()[-4:] for line in out.splitlines() if "word error rate" in line] == [
        ["4", f"{rate:.2%}", f"{rate:.2%}", "100.00%"]
    ] * 2
    assert "onnxruntime/bf16 is left out" in out
    assert f"{BASE}: transcribe" in err
    assert not any(qualities(engine).values())  # it was not asked to
    assert main([*command, "--write", "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    found = qualities(engine)
    assert found["fp32"] == found["int8"]
    assert [one.measure for one in found["int8"]] == ["word_error_rate", "character_error_rate"]
    assert found["int8"][0].value == pytest.approx(rate)
    assert (found["int8"][0].clips, found["int8"][0].data) == (4, "held-out")
    assert found["bf16"] == ()


def test_a_form_that_does_not_work_here_is_left_out(engine: Path, clips: Path) -> None:
    data = json.loads((engine / MANIFEST_NAME).read_text())
    shutil.copy(engine / "fp32.onnx", engine / "int8.onnx")  # which is not what its hash says
    other = next(graph for graph in data["graphs"] if graph["name"] == "int8")
    other["file"], other["sha256"] = "int8.onnx", {"int8.onnx": "0" * 64}
    (engine / MANIFEST_NAME).write_text(json.dumps(data))
    exact, broken = evaluate(engine, read(clips), [OTHER], FLAGS)
    assert (exact.form, len(exact.measured)) == (BASE, 2)
    assert (broken.form, broken.measured) == (OTHER, ())
    assert "does not work here" in broken.reason


def test_labels_and_neighbours(tmp_path: Path) -> None:
    """Each word and the same a little lower and softer, which is its neighbour; one of them has a wrong group."""
    entries = []
    for path in sorted((DEMO / "audio/words").glob("*.flac"))[:3]:
        audio, rate = soundfile.read(path)
        soundfile.write(tmp_path / path.name, 0.7 * audio[160:], rate)
        word = path.stem
        entries += [{"audio": str(path), "group": word, "label": word}, {"audio": path.name, "group": word}]
    entries[-1]["group"] = "another"
    for entry in entries:
        entry.setdefault("label", entries[0]["label"])
    [found] = evaluate(DEMO / "engines/usm-spoken-words", read(write(tmp_path / "clips.jsonl", *entries)), (), FLAGS)
    assert {one.measure: one.value for one in found.measured} == pytest.approx({"top_1": 4 / 6, "retrieval": 4 / 6})
    assert list(found.quality) == ["fp32"]


def test_agreement_is_with_what_fp32_says(engine: Path, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {BASE: ["a", "b", "c", "one two three"], OTHER: ["a", "b", "d", "one three"]}

    def ask(folder: Path, form: Form, question: Any, clips: Sequence[Input], *_: object) -> tuple[Any, list[str]]:
        texts = zip(clips, said[form.name], strict=True)
        return {clip: Outcome(1.0, {"text": text}) for clip, text in texts}, [form.graphs[0].name]

    monkeypatch.setattr(module, "ask", ask)
    exact, other, _ = evaluate(engine, read(clips), (), FLAGS)
    assert [one.agreement for one in exact.measured] == [1.0, 1.0]
    assert [one.agreement for one in other.measured] == [0.5, 0.5]
    assert [one.fp32 for one in other.measured] == [one.value for one in exact.measured]
    assert other.measured[0].value > exact.measured[0].value


def test_what_is_kept_takes_the_place_of_the_same(engine: Path) -> None:
    def quality(value: float, data: str) -> Quality:
        return Quality(measure="top_1", value=value, fp32=0.5, agreement=1, clips=2, data=data)

    for one in (quality(0.1, "a"), quality(0.2, "b"), quality(0.3, "a")):
        keep(engine, [Evaluated(OTHER, quality={"int8": (one,)})])
    assert [(one.data, one.value) for one in qualities(engine)["int8"]] == [("b", 0.2), ("a", 0.3)]
    assert sorted(path.name for path in engine.iterdir()) == sorted(
        path.name for path in (DEMO / "engines/hubert-ctc-english").iterdir()
    )


def test_one_clip_that_cannot_be_used_ends_it(engine: Path, clips: Path) -> None:
    entry = json.loads((clips / "clips.jsonl").read_text().splitlines()[0])
    write(clips / "clips.jsonl", entry, {"audio": "gone.flac", "text": ""})
    with pytest.raises(RunError, match=r"gone\.flac: the file cannot be read"):
        list(evaluate(engine, read(clips), [BASE], FLAGS))


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--forms=onnxruntime/fp16",), 2, "the engine has onnxruntime/bf16, onnxruntime/fp32, onnxruntime/int8"),
        (("--forms=",), 2, "--forms"),
    ],
)
def test_what_is_asked_for_in_vain(
    arguments: Sequence[str], status: int, message: str, engine: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(engine), str(clips), *arguments]) == status
    assert message in capsys.readouterr().err


def test_a_folder_that_is_no_engine(tmp_path: Path, clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tmp_path), str(clips)]) == 1
    assert "is not an engine" in capsys.readouterr().err
