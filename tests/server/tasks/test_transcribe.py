from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.manifest import Ctc, Manifest, Search
from server.decoding.search import Hypothesis
from server.decoding.text import TextDecoder
from server.decoding.transcript import Alternative, Piece, Transcript
from server.errors import OptionError, OptionNotSupportedError, TaskNotSupportedError
from server.schemas.options import TranscribeOptions
from server.settings import Settings
from server.steps import finish
from server.tasks.transcribe import MAX_HOTWORD_CHARACTERS, Transcribe, Write
from server.windows import Geometry, Span, Window, spans
from tests.server.scheduling.fakes import plan as any_plan
from tests.server.tasks.manifests import manifest

CTC = Ctc(vocabulary=("<pad>", "|", "a", "b"), blank=0, skipped=(), word_delimiter="|")
SAMPLES = 320  # of a frame
SAID = [2, 2, 0, 3, 1, 2, 0]  # "ab a"


def task(ctc: Ctc = CTC, target_lang: str | None = None, **options: Any) -> Transcribe:
    spec = manifest(ctc=ctc).model_copy(update={"target_lang": target_lang})
    return Transcribe(spec, TranscribeOptions.model_validate(options), Settings(max_beams=20))


def about(value: Any, rel: float | None = None) -> Any:
    """Return what is equal to about `value`."""
    return pytest.approx(value, rel)


def logits_of(ids: Sequence[int]) -> NDArray[np.float32]:
    return (6 * np.eye(4)[list(ids)]).astype(np.float32)


def result(of: Transcribe, logits: NDArray[np.float32], cuts: Sequence[Span] | None = None) -> Transcript:
    """Give each window what it sees of `logits`, as the service does."""
    windows = [
        Window({"logits": logits[span.start // SAMPLES : span.end // SAMPLES]}, span)
        for span in cuts or [Span.whole(len(logits) * SAMPLES)]
    ]
    return finish(of.result([Window(of.reduce(window), window.span) for window in windows]))


def test_the_logits_become_text() -> None:
    assert task().outputs == ("logits",)
    found = result(task(), logits_of(SAID))
    assert found.text == "ab a"
    assert found.confidence == about(np.exp(6) / (np.exp(6) + 3))
    assert (found.words, found.chars, found.segments, found.alternatives, found.tokens) == (None, None, None, (), None)


def test_words_and_characters_have_times_in_seconds() -> None:
    found = result(task(timestamps="char"), logits_of(SAID))
    assert found.words
    assert found.chars
    assert [(one.text, one.start, one.end) for one in found.words] == [
        ("ab", 0, about(0.08)),
        ("a", about(0.1), about(0.12)),
    ]
    assert "".join(one.text for one in found.chars) == "ab a"
    assert [one.end for one in found.chars] == about([0.04, 0.08, 0.1, 0.12])
    assert result(task(timestamps="word"), logits_of(SAID)).chars is None


@pytest.mark.parametrize("response_format", ["srt", "vtt", "verbose_json"])
def test_what_is_made_of_words_gets_them(response_format: str) -> None:
    assert result(task(response_format=response_format), logits_of(SAID)).words
    assert result(task(response_format=response_format, timestamps="char"), logits_of(SAID)).chars


@pytest.mark.parametrize("options", [{}, {"beams": 4}])
@pytest.mark.parametrize("seed", range(3))
def test_windows_say_what_their_frames_say_together(options: dict[str, Any], seed: int) -> None:
    logits = np.random.default_rng(seed).normal(scale=3, size=(200, 4)).astype(np.float32)
    geometry = Geometry(window=60 * SAMPLES, context=10 * SAMPLES, unit=SAMPLES)
    of = task(timestamps="char", **options)
    cuts = spans(200 * SAMPLES, geometry)
    assert len(cuts) > 3
    assert result(of, logits, cuts) == result(of, logits)


def test_no_text_has_no_confidence() -> None:
    assert result(task(timestamps="word"), logits_of([0, 1, 0])) == Transcript("", None, words=())


def test_beams_find_what_is_likelier_than_the_best_path() -> None:
    """Each frame is likelier blank, yet `a` is in one of them: 0.64."""
    logits = np.log(np.array([[0.58, 0.02, 0.39, 0.01]] * 2)).astype(np.float32)
    assert result(task(), logits).text == ""
    found = result(task(beams=3, alternatives=3, timestamps="word"), logits)
    assert found.text == "a"
    assert found.words == (Piece("a", 0, about(0.02), about(0.39, rel=1e-4)),)
    assert [one.text for one in found.alternatives][:2] == ["a", ""]
    assert found.alternatives[0].score == about(np.log(0.39 * 0.58 * 2 + 0.39**2), rel=1e-4)
    assert found.alternatives[0].confidence == found.confidence
    assert found.alternatives[1].confidence is None


def test_hotwords_are_heard_sooner() -> None:
    logits = logits_of(SAID)
    logits[3, 2] += 4
    assert result(task(), logits).text == "ab a"
    assert result(task(hotwords="AA"), logits).text == "aa a"
    assert result(task(hotwords=["aa", "b"], hotword_weight=1), logits).text == "ab a"
    assert result(task(hotwords="aa", beams=1), logits).text == "aa a"


def test_what_is_kept_is_counted() -> None:
    spec = manifest(ctc=CTC)
    clip = [Span.whole(99 * SAMPLES)]  # up to 100 frames
    assert task().kept.size(spec, clip) == 100 * 8
    assert task(timestamps="word").kept.size(spec, clip) > task().kept.size(spec, clip)
    beams = task(beams=4).kept.size(spec, clip)
    assert beams >= 100 * 4 * len(CTC.vocabulary)
    assert task(beams=4, alternatives=4).kept.size(spec, clip) > beams


@pytest.mark.parametrize(("options", "kept"), [({}, {"ids", "log_probs"}), ({"beams": 4}, {"logits"})])
def test_what_is_kept_holds_nothing_else(options: dict[str, Any], kept: set[str]) -> None:
    logits = logits_of(SAID)
    row = task(**options).reduce(Window({"logits": logits}, Span.whole(7 * SAMPLES)))
    assert set(row) == kept
    assert not any(np.shares_memory(array, logits) for array in row.values())


@pytest.mark.parametrize(
    "options",
    [{"language": "en"}, {"temperature": 0.5}, {"top_k": 5}, {"top_p": 0.5}, {"seed": 0}, {"max_tokens": 10}],
)
def test_what_ctc_cannot_honour_is_refused_by_name(options: dict[str, Any]) -> None:
    [name] = options
    with pytest.raises(OptionNotSupportedError, match=name) as caught:
        task(**options)
    assert caught.value.param == name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beams": 21}, "up to 20"),
        ({"alternatives": 2}, "as many beams, not 1"),
        ({"hotword_weight": 1}, "set 'hotwords' too"),
        ({"hotwords": "x"}, "cannot spell 'x'"),
        ({"hotwords": ["a" * n for n in range(1, 101)]}, f"more than {MAX_HOTWORD_CHARACTERS}"),
    ],
)
def test_what_cannot_be_honoured(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        task(**options)
    assert caught.value.param == next(iter(options))


def test_what_asks_for_nothing_is_taken() -> None:
    of = task(timestamps="none", beams=1, hotwords=[], language="", temperature=0)
    assert result(of, logits_of(SAID)) == result(task(), logits_of(SAID))


def test_the_language_that_was_exported_may_be_named() -> None:
    task(target_lang="eng", language="eng")
    with pytest.raises(OptionNotSupportedError):
        task(target_lang="eng", language="deu")


@pytest.mark.parametrize("options", [{}, {"timestamps": "word"}, {"beams": 2}])
def test_subtitles_of_a_script_without_spaces_are_cut_between_characters(options: dict[str, Any]) -> None:
    found = result(task(response_format="srt", **options), logits_of([2, 3] * 60))
    assert found.words
    assert found.chars is None
    assert found.segments
    assert [word.text for word in found.words] == ["ab" * 60]
    assert "".join(segment.text for segment in found.segments).replace(" ", "") == found.text
    assert all(len(segment.text) <= 2 * 42 + 1 for segment in found.segments)


def test_the_increments_of_windows_are_the_text() -> None:
    ids = [2, 2, 0, 3, 1, 1, 2, 3, 3, 0, 3, 1]
    cuts = spans(len(ids) * SAMPLES, Geometry(5 * SAMPLES, SAMPLES, SAMPLES, SAMPLES))
    assert len(cuts) > 2
    of = task()
    increment = of.increments()
    assert increment
    windows = [Window({"logits": logits_of(ids)[cut.start // SAMPLES : cut.end // SAMPLES]}, cut) for cut in cuts]
    deltas = [increment(Window(of.reduce(window), window.span)) for window in windows]
    assert "".join(deltas) == result(of, logits_of(ids)).text == "ab abb"
    assert task(beams=2).increments() is None


def test_a_model_without_a_vocabulary() -> None:
    with pytest.raises(TaskNotSupportedError):
        Transcribe(manifest(), TranscribeOptions(), Settings())


def writer(**options: Any) -> Write:
    return Write(writing(), Spelling(), TranscribeOptions.model_validate(options), Settings())


def writing() -> Manifest:
    generation = any_plan().generation.model_copy(update={"search": Search(max_length=30, num_beams=3)})
    return manifest().model_copy(update={"generation": generation})


class Spelling(TextDecoder):
    """Token 1 is a, 3 a space."""

    def __init__(self) -> None:
        pass

    def decode(self, tokens: Any) -> str:
        return "".join({1: "a", 3: " "}.get(token, "") for token in tokens)


@dataclass(frozen=True)
class Written:
    hypotheses: Sequence[Hypothesis]
    span: Span


def test_what_was_written_becomes_text() -> None:
    window = Written([Hypothesis((1, 1, 2), -0.5, 0.8), Hypothesis((2,), -1.5, 0.2)], Span.whole(8000))
    found = writer(alternatives=2).result([window])
    assert found == Transcript(
        "aa",
        about(0.8),
        segments=(Piece("aa", 0, 0.5, about(0.8)),),
        alternatives=(Alternative("aa", about(0.8), -0.5), Alternative("", None, -1.5)),
        tokens=3,
    )
    assert writer().result([window]).alternatives == ()


def test_windows_are_segments_and_joined_by_spaces() -> None:
    windows = [
        Written([Hypothesis((3, 1, 2), -0.5, 0.8), Hypothesis((1, 1, 2), -0.6, 0.7)], Span(0, 8000, 0, 8000)),
        Written([Hypothesis((2,), -0.1, 0.9)], Span(8000, 12000, 8000, 12000)),
        Written([Hypothesis((1, 2), -0.2, 0.5), Hypothesis((1, 1, 1, 2), -0.4, 0.6)], Span(12000, 16000, 12000, 16000)),
    ]
    found = writer(alternatives=3).result(windows)
    assert found.text == "a a"
    assert found.tokens == 6
    assert found.confidence == about((0.8**3 * 0.9 * 0.5**2) ** (1 / 6))
    assert found.segments == (Piece("a", 0, 0.5, about(0.8)), Piece("a", 0.75, 1.0, about(0.5)))
    assert [(one.text, one.score) for one in found.alternatives] == [
        ("a a", about(-0.8)),
        ("aa a", about(-0.9)),
        ("a aaa", about(-1.0)),
    ]


def test_the_spaces_of_a_single_text_stay() -> None:
    assert writer().result([Written([Hypothesis((3, 1), -0.5, None)], Span.whole(8000))]).text == " a"


@pytest.mark.parametrize("options", [{"hotwords": "x"}, {"timestamps": "word"}])
def test_what_cannot_be_had_of_a_text(options: dict[str, Any]) -> None:
    with pytest.raises(OptionNotSupportedError) as caught:
        writer(**options)
    assert caught.value.param == next(iter(options))


def test_a_model_that_writes_nothing() -> None:
    with pytest.raises(TaskNotSupportedError):
        Write(manifest(), Spelling(), TranscribeOptions(), Settings())


def test_the_decoder_is_that_of_the_checkpoint() -> None:
    lower = CTC.model_copy(update={"vocabulary": ("<pad>", "|", "A", "B"), "lowercase": True})
    assert result(task(lower), logits_of(SAID)).text == "ab a"
