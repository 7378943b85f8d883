from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks import machine, record
from benchmarks.base import Run
from benchmarks.charts.chart import Bars
from benchmarks.findings import Promise
from benchmarks.peers import command, engines, environments, field, race
from benchmarks.peers.environments import Environment, EnvironmentFailedError
from benchmarks.records.peers import PADDED, TRUTH, Contestant, Group, ModelPeers, PeerEngines, Precision, Turn
from benchmarks.stats import Estimate, Timing

RUN = Run(
    model="hubert-base",
    parameters=1,
    threads=2,
    seed=0,
    date="2026-01-01",
    commit=None,
    machine=machine.describe(),
    versions={},
)
OURS, FASTER, RIVAL = "Sonant onnxruntime/fp32", "Sonant onnxruntime/int8", "optimum int8"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("peers")


@pytest.fixture(scope="module")
def path(cache: Path) -> Path:
    """The result of a quick run, by way of its command."""
    path = cache / "peers-engines.json"
    assert command.main(["engines", "--quick", "--cache", str(cache), "--output", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def result(path: Path) -> PeerEngines:
    found = record.read(path)
    assert isinstance(found, PeerEngines)
    return found


def test_a_quick_run_has_figures_that_are_sane(result: PeerEngines) -> None:
    assert result.complete
    [model] = result.models
    assert [(group.clips, group.reference) for group in model.groups] == [("0.5 s", TRUTH), ("2 mixed", TRUTH)]
    for group in model.groups:
        for turn in group.turns:
            assert turn.rounds == 2
            assert 0.0 < turn.time.median_ms <= turn.time.p95_ms
            assert turn.ratio.low <= turn.ratio.value <= turn.ratio.high
        assert group.failed == {}


def test_our_padded_batches_are_right_and_those_of_transformers_are_not(result: PeerEngines) -> None:
    mixed = result.models[0].groups[-1]
    assert {turn.name for turn in mixed.turns} == {TRUTH, TRUTH + PADDED, OURS, OURS + PADDED}
    for turn in mixed.turns:
        if turn.name == TRUTH + PADDED:
            assert turn.error > 1e-2
        else:
            assert turn.error < 1e-5
            assert turn.cosine == pytest.approx(1.0)


def test_versions_are_those_of_the_environment(result: PeerEngines) -> None:
    first, *_, last = result.models[0].contestants
    assert (first.name, last.name) == (TRUTH, OURS)
    assert {*first.versions} == {"torch", "transformers"}
    assert {*last.versions} == {"onnxruntime"}


def test_what_was_measured_is_not_measured_again(
    path: Path, result: PeerEngines, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(race, "load", None)  # it would fail
    before = path.read_bytes()
    assert command.main(["engines", "--quick", "--cache", str(cache), "--output", str(path)]) == 0
    again = record.read(path)
    assert isinstance(again, PeerEngines)
    assert again.models == result.models
    path.write_bytes(before)


def test_a_model_that_cannot_be_measured_is_named(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["engines", "--quick", "--cache", str(cache), "--lengths", "0.001"]) == 1
    assert f"{engines.DEMO}: nothing to measure: the engine takes" in capsys.readouterr().err


def test_a_peer_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(["engines", "--peers", "fairseq"])
    assert "there is no peer called fairseq" in capsys.readouterr().err


def test_a_peer_without_its_environment_or_its_instructions_is_left_out(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(name: str, *_: object) -> Environment:
        if name == "optimum":
            raise EnvironmentFailedError("optimum: the install failed: no space")
        return environments.own()

    old = machine.describe().model_copy(update={"flags": ("avx2",)})
    monkeypatch.setattr(machine, "describe", lambda: old)
    monkeypatch.setattr(environments, "make", make)
    parser = argparse.ArgumentParser()
    engines.add_options(parser)
    parser.set_defaults(**engines.QUICK, quick=False)
    arguments = parser.parse_args(["--peers=optimum,optimum int8,transformers bf16", f"--cache={cache}"])
    found = field.gather(engines.DEMO, arguments, lambda step: None)
    failed = "optimum: the install failed: no space"
    assert found.left_out == {
        "optimum": failed,
        "optimum int8": failed,
        "transformers bf16": "this processor has no bf16 (avx512_bf16 or amx_bf16)",
    }
    assert {one.name: one.reason for one in field.begun(found).contestants if one.reason} == found.left_out
    assert failed in capsys.readouterr().err


# (name, precision, ratio by cell, rival by cell, cosine)
Made = tuple[str, Precision, tuple[float, ...], float | None, float]
KEPT: tuple[Made, ...] = (
    (TRUTH, "fp32", (1.0, 1.0), None, 1.0),
    (OURS, "fp32", (1.2, 0.97), None, 1.0),
    (RIVAL, "int8", (1.8, 1.8), 1.0, 0.9995),
    (FASTER, "int8", (2.6, 2.5), 1.4, 0.9993),
)


def made(*rows: Made, model: str = "hubert-base") -> PeerEngines:
    """Return a record of these figures."""
    groups = []
    for precision in dict.fromkeys(row[1] for row in rows):
        for index, clips in enumerate(("1 s", "10 s")):
            turns = tuple(
                Turn(
                    name=name,
                    rounds=3,
                    time=Timing(median_ms=100.0 / ratios[index], p95_ms=200.0),
                    ratio=exactly(ratios[index]),
                    rival=exactly(rival) if rival else None,
                    error=1.0 - cosine,
                    cosine=cosine,
                )
                for name, each, ratios, rival, cosine in rows
                if each == precision
            )
            groups.append(
                Group(clips=clips, audio_seconds=1.0, precision=precision, reference=TRUTH, turns=turns, failed={})
            )
    contestants = tuple(
        Contestant(name=row[0], is_ours=row[0].startswith("Sonant"), precision=row[1], setup="", versions={})
        for row in rows
    )
    one = ModelPeers(model=model, parameters=1, key="", contestants=contestants, groups=tuple(groups))
    return PeerEngines(run=RUN, models=(one,), complete=True)


def exactly(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)


def test_promises_are_judged() -> None:
    mean, least, reduced, rivals = made(*KEPT).promises
    exact = "exact engines (onnxruntime/fp32 on hubert-base) over the best fp32 peer"
    assert mean == Promise(f"{exact}, geometric mean", "at least 1x", "1.079 (1.079 to 1.079)", kept=True)
    assert least == Promise(
        f"{exact}, least cell (hubert-base, 10 s)", "at least 0.95x", "0.970 (0.970 to 0.970)", kept=True
    )
    assert reduced == Promise(
        f"{FASTER} on hubert-base, over the best fp32 peer", "at least 2.4x", "2.550 (2.550 to 2.550)", kept=True
    )
    assert rivals == Promise(
        f"{FASTER} on hubert-base, over the best int8 peer", "at least 1x", "1.400 (1.400 to 1.400)", kept=True
    )


@pytest.mark.parametrize(
    ("index", "row", "message"),
    [
        (1, (OURS, "fp32", (1.2, 0.94), None, 1.0), "promised is at least 0.95x (MISSED)"),
        (1, (OURS, "fp32", (0.99, 0.99), None, 1.0), "promised is at least 1x (MISSED)"),
        (3, (FASTER, "int8", (2.3, 2.3), 1.4, 0.9993), "promised is at least 2.4x (MISSED)"),
        (3, (FASTER, "int8", (2.6, 2.5), 0.9, 0.9993), "promised is at least 1x (MISSED)"),
    ],
)
def test_a_promise_that_is_not_kept_is_said(index: int, row: Made, message: str) -> None:
    rows = [*KEPT]
    rows[index] = row
    assert message in made(*rows).summary
    assert "MISSED" not in made(*KEPT).summary


def test_other_models_have_another_aim() -> None:
    row: Made = (FASTER, "int8", (1.95, 1.95), 1.4, 0.9993)
    assert "promised is at least 1.9x (kept)" in made(*KEPT[:3], row, model="sew-small").summary


def test_a_form_that_is_not_close_does_not_count() -> None:
    row: Made = (FASTER, "int8", (9.0, 9.0), 1.4, 0.9989)
    found = made(*KEPT[:3], row).promises
    assert [each.promised for each in found] == ["at least 1x", "at least 0.95x"]


def test_the_table_has_a_row_for_everyone() -> None:
    header, rows = made(*KEPT).table
    assert header == ["model", "contestant", "precision", "1 s", "10 s", "error", "cosine"]
    assert [row[1] for row in rows] == ["best fp32 peer", TRUTH, OURS, RIVAL, FASTER]
    assert rows[0][3] == f"{TRUTH}, 100 ms"
    assert rows[4][3:] == ["2.60 (2.60 to 2.60)", "2.50 (2.50 to 2.50)", "7.0e-04", "0.99930"]


def test_what_could_not_be_run_is_said() -> None:
    found = made(*KEPT)
    [model] = found.models
    first, *groups = model.groups
    left_out = model.contestants[0].model_copy(update={"name": "x", "precision": "bf16", "reason": "no bf16"})
    contestants = (*model.contestants, left_out)
    failing = first.model_copy(update={"failed": {"optimum": "it fell over"}})
    model = model.model_copy(update={"contestants": contestants, "groups": (failing, *groups)})
    summary = found.model_copy(update={"models": (model,), "complete": False}).summary
    assert "Not run: x (hubert-base): no bf16; optimum (hubert-base, 1 s): it fell over." in summary
    assert summary.endswith("The run was stopped before its end.")


def test_a_chart_for_each_model() -> None:
    [chart] = made(*KEPT).charts
    assert isinstance(chart, Bars)
    assert chart.name == "peers-hubert-base"
    assert [(row.label, row.group) for row in chart.rows] == [
        (TRUTH, "fp32"),
        (OURS, "fp32"),
        (RIVAL, "int8"),
        (FASTER, "int8"),
    ]
    assert chart.rows[-1].value == pytest.approx((2.6 * 2.5) ** 0.5)
