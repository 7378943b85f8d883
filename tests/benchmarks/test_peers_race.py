from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from benchmarks import console
from benchmarks.peers import race, roster
from benchmarks.peers.process import ContestantError, Process
from benchmarks.peers.race import Case, Pace, Side
from benchmarks.peers.roster import PEERS, Entrant
from benchmarks.records.peers import PADDED, TRUTH, Group

PACE = Pace(seconds=0.0, rounds=4, limit=1000.0, seed=0)
EXACT = roster.ours("onnxruntime/fp32")


@dataclass
class Fake:
    """Stands in for a process: takes `seconds`, and says of each clip what is true, but for `error`."""

    seconds: float
    error: float = 0.0
    fails_after: int = 1000
    runs: list[bool] = field(default_factory=list)

    def run(self, clips: Path, padded: bool, seconds: float, keep: Path | None = None) -> float:
        self.runs.append(padded)
        if len(self.runs) > self.fails_after:
            raise ContestantError("it fell over")
        if keep is not None:
            with np.load(clips) as file:
                rows = [file[name][:, None] for name in file.files]
            longest = max(row.shape[0] for row in rows) if padded else 0
            short = [np.pad(row, ((0, max(0, longest - row.shape[0])), (0, 0))) for row in rows]
            np.savez(keep, *(row + self.error * (np.arange(row.shape[0]) % 2)[:, None] for row in short))
        return self.seconds


def side(entrant: Entrant, fake: Fake, padded: bool = False) -> Side:
    return Side(entrant, cast("Process", fake), padded)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    clips = (np.ones(8, np.float32), np.ones(4, np.float32))
    np.savez(tmp_path / "clips.npz", *clips)
    return Case("2 mixed", clips, tmp_path / "clips.npz", 1.0)


def measure(case: Case, sides: list[Side], known: str | None = None, pace: Pace = PACE) -> Group:
    precision = sides[-1].entrant.precision
    return race.measure(case, precision, sides, known, pace, case.path.parent, lambda rounds, share: None)


def test_the_reference_is_the_fastest_peer_that_is_right(case: Case) -> None:
    group = measure(
        case,
        [
            side(PEERS[TRUTH], Fake(4.0)),
            side(PEERS["optimum"], Fake(2.0)),
            side(PEERS["pipeline"], Fake(1.0, error=0.5)),
            side(EXACT, Fake(1.6)),
        ],
    )
    assert group.reference == "optimum"
    found = {turn.name: (turn.ratio.value, turn.rounds) for turn in group.turns}
    assert found == {
        TRUTH: (0.5, 4),
        "optimum": (1.0, 4),
        "pipeline": (2.0, 4),
        "Sonant onnxruntime/fp32": (pytest.approx(1.25), 4),
    }
    wrong = group.find("pipeline")
    assert wrong is not None
    assert wrong.error == pytest.approx(0.5)
    assert wrong.cosine < 0.999


def test_a_padded_batch_is_compared_with_the_clips_alone(case: Case) -> None:
    fake = Fake(4.0)
    group = measure(case, [side(PEERS[TRUTH], fake), side(PEERS[TRUTH], fake, padded=True)])
    turn = group.find(TRUTH + PADDED)
    assert turn is not None
    assert turn.error == 0.0
    assert {*fake.runs} == {False, True}


def test_other_precisions_have_a_rival_of_their_own(case: Case) -> None:
    sides = [
        side(PEERS[TRUTH], Fake(4.0)),
        side(PEERS["OpenVINO"], Fake(3.0)),
        side(PEERS["optimum int8"], Fake(2.0, error=0.01)),
        side(PEERS["OpenVINO int8"], Fake(1.2, error=0.5)),
        side(roster.ours("onnxruntime/int8"), Fake(1.5, error=0.01)),
    ]
    group = measure(case, sides, known="OpenVINO")
    ours = group.find("Sonant onnxruntime/int8")
    assert ours is not None
    assert ours.rival is not None
    assert group.reference == "OpenVINO"
    assert ours.ratio.value == 2.0
    assert ours.rival.value == pytest.approx(2.0 / 1.5)


def test_what_is_far_slower_is_timed_once(case: Case) -> None:
    slow = Fake(4.1)
    group = measure(case, [side(PEERS[TRUTH], Fake(1.0)), side(PEERS["optimum"], slow), side(EXACT, Fake(1.0))])
    turn = group.find("optimum")
    assert turn is not None
    assert turn.rounds == 1
    assert turn.time.median_ms == pytest.approx(4100.0)
    assert len(slow.runs) == 2


@pytest.mark.parametrize("fails_after", [0, 1, 3], ids=["at once", "when warm", "in a round"])
def test_what_fails_is_left_out_and_said(case: Case, fails_after: int) -> None:
    failing = Fake(0.5, fails_after=fails_after)
    group = measure(case, [side(PEERS[TRUTH], Fake(1.0)), side(PEERS["optimum"], failing), side(EXACT, Fake(1.0))])
    assert [turn.name for turn in group.turns] == [TRUTH, EXACT.name]
    assert (group.reference, group.failed) == (TRUTH, {"optimum": "it fell over"})


def test_without_the_truth_there_is_nothing_to_compare(case: Case) -> None:
    for fails_after in (0, 3):
        with pytest.raises(ValueError, match="transformers failed at 2 mixed: it fell over"):
            measure(case, [side(PEERS[TRUTH], Fake(1.0, fails_after=fails_after)), side(EXACT, Fake(1.0))])


def test_an_exact_form_of_ours_that_is_wrong_is_no_result(case: Case) -> None:
    with pytest.raises(console.WrongResultError, match="Sonant onnxruntime/fp32 differ from transformers at 2 mixed"):
        measure(case, [side(PEERS[TRUTH], Fake(1.0)), side(EXACT, Fake(1.0, error=0.01))])


def test_a_long_cell_has_fewer_rounds(case: Case) -> None:
    fake = Fake(1.0)
    pace = Pace(seconds=0.0, rounds=9, limit=1.0, seed=0)
    group = measure(case, [side(PEERS[TRUTH], fake), side(EXACT, Fake(1.0))], pace=pace)
    assert {turn.rounds for turn in group.turns} == {race.FEWEST}
    assert len(fake.runs) == 2 + race.FEWEST
