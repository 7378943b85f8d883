import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import Wav2Vec2CTCTokenizer

from engines.engine import Engine
from engines.manifest import Ctc
from export.checkpoint import Checkpoint
from server.decoding.ctc import CtcDecoder, Emissions, Increments
from server.decoding.transcript import Piece

DEMO = Path(__file__).parents[3] / "demo"
SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")
LETTERS = (*SPECIALS, "|", "A", "B", "L", "'", "é", "ß")
PHONEMES = ("|", "oi", "tʃ", "t", "ʃ", "a", " ", *SPECIALS)
OTHERS = ("<s>", "a", "</s>", "|", "İ", "<unk>", "ab", "b", "<pad>", "Σ", "-")
LAST = ("a", "b", "|", "<s>", "</s>", "<unk>", "c", "d", "e", "f", "<pad>")
NO_DELIMITER = ("<s>", "<pad>", "ba", "ab", "a", "b", "</s>", "<unk>", "字", "c", "cc")
# What the tokenizer is made of: its vocabulary, and its settings where they are not the defaults.
CASES: dict[str, tuple[Sequence[str], dict[str, Any]]] = {
    "letters": (LETTERS, {}),
    "lowercase": (LETTERS, {"do_lower_case": True}),
    "lowercase that grows": (OTHERS, {"do_lower_case": True}),
    "phonemes": (PHONEMES, {}),
    "the blank in the middle": (OTHERS, {}),
    "the blank at the end": (LAST, {}),
    "another blank": (LAST, {"pad_token": "e"}),
    "another delimiter": (OTHERS, {"word_delimiter_token": "-"}),
    "the delimiter is special": (LETTERS, {"unk_token": "|"}),
    "the delimiter is a space": (PHONEMES, {"word_delimiter_token": " "}),
    "no delimiter": (NO_DELIMITER, {"word_delimiter_token": None}),
    "the delimiter is written otherwise": (LETTERS, {"replace_word_delimiter_char": "_"}),
    "the delimiter is written as a token": (OTHERS, {"replace_word_delimiter_char": "-"}),
    "one of many languages": (OTHERS, {"target_lang": "eng"}),
}
SIZE = 11  # tokens of each


def logits_of(ids: Sequence[int], size: int = SIZE, scale: float = 5.0) -> NDArray[np.float32]:
    return (scale * np.eye(size)[ids]).astype(np.float32).reshape(len(ids), size)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Wav2Vec2CTCTokenizer, CtcDecoder]]:
    """The tokenizer of each case, and the decoder of what is exported of it."""
    folder: Path = tmp_path_factory.mktemp("tokenizers")
    found = {}
    for name, (vocabulary, options) in CASES.items():
        ids: dict[str, Any] = {token: index for index, token in enumerate(vocabulary)}
        if language := options.get("target_lang"):
            ids = {"deu": {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "x": 4}, language: ids}
        path = folder / f"{name}.json"
        path.write_text(json.dumps(ids))
        tokenizer = Wav2Vec2CTCTokenizer(path, **options)
        exported = Checkpoint(folder, name, None, options.get("target_lang"))._ctc(tokenizer, SIZE)
        found[name] = tokenizer, CtcDecoder(exported)
    return found


@pytest.mark.parametrize("name", CASES)
@given(ids=st.lists(st.integers(0, SIZE - 1), max_size=40))
@settings(max_examples=40, deadline=None)
def test_text_and_offsets_are_those_of_transformers(
    name: str, ids: list[int], tokenizers: dict[str, tuple[Wav2Vec2CTCTokenizer, CtcDecoder]]
) -> None:
    tokenizer, decoder = tokenizers[name]
    compare(tokenizer, decoder, logits_of(ids))


@pytest.mark.parametrize("name", CASES)
def test_random_logits(name: str, tokenizers: dict[str, tuple[Wav2Vec2CTCTokenizer, CtcDecoder]]) -> None:
    tokenizer, decoder = tokenizers[name]
    generator = np.random.default_rng(3)
    for frames in (1, 2, 7, 300):
        compare(tokenizer, decoder, generator.normal(size=(frames, SIZE)).astype(np.float32))


def compare(tokenizer: Wav2Vec2CTCTokenizer, decoder: CtcDecoder, logits: NDArray[np.float32]) -> None:
    """Check all that transformers gives for the best path without its special tokens."""
    path = logits.argmax(axis=1)
    # The blank and the delimiter may be special tokens: they stay.
    dropped = set(tokenizer.all_special_tokens) - {tokenizer.pad_token, tokenizer._word_delimiter_token}
    kept = [frame for frame, token in enumerate(tokenizer.convert_ids_to_tokens(path)) if token not in dropped]
    expected: Any = tokenizer.decode(path[kept], output_char_offsets=True, output_word_offsets=True)
    found = decoder.greedy(logits)
    assert decoder.text(found.tokens) == expected.text
    for pieces, offsets, key in (
        (decoder.characters(found, 1), expected.char_offsets, "char"),
        (decoder.words(found, 1), expected.word_offsets, "word"),
    ):
        cased = [one[key].lower() if tokenizer.do_lower_case else one[key] for one in offsets]
        assert [piece.text for piece in pieces] == cased
        # of the path with them: a character ends with the last frame that emits it
        assert [piece.start for piece in pieces] == [kept[one["start_offset"]] for one in offsets]
        assert [piece.end for piece in pieces] == [kept[one["end_offset"] - 1] + 1 for one in offsets]


def test_the_recordings_of_the_demo() -> None:
    engine = Engine(DEMO / "engines" / "hubert-ctc-english")
    tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(DEMO / "checkpoints" / "hubert-ctc-english")
    assert engine.manifest.ctc
    decoder = CtcDecoder(engine.manifest.ctc)
    clips = [soundfile.read(path, dtype="float32")[0] for path in sorted((DEMO / "audio").glob("*.flac"))]
    assert clips
    for row in engine.run(clips, ["logits"]):
        compare(tokenizer, decoder, row["logits"])
        assert len(decoder.words(decoder.greedy(row["logits"]), 1)) > 1


def test_without_special_tokens_it_is_what_the_pipeline_does(
    tokenizers: dict[str, tuple[Wav2Vec2CTCTokenizer, CtcDecoder]],
) -> None:
    tokenizer, decoder = tokenizers["letters"]
    path = [0, 5, 5, 0, 5, 4, 4, 6, 0, 0]
    output: Any = tokenizer.decode(path, skip_special_tokens=False, output_char_offsets=True)
    assert [(one.text, one.start, one.end) for one in decoder.characters(decoder.greedy(logits_of(path)), 1)] == [
        (one["char"], one["start_offset"], one["end_offset"]) for one in output.char_offsets
    ]


LETTER_DECODER = CtcDecoder(Ctc(vocabulary=LETTERS, blank=0, skipped=(1, 2, 3), word_delimiter="|"))


def greedy(ids: list[int]) -> Emissions:
    return LETTER_DECODER.greedy(logits_of(ids))


def test_a_blank_keeps_double_letters_apart() -> None:
    assert LETTER_DECODER.text(greedy([5, 5, 7, 0, 7, 7, 4, 6]).tokens) == "ALL B"


def test_a_special_token_does_not_keep_them_apart() -> None:
    found = greedy([5, 1, 5, 2])
    assert LETTER_DECODER.text(found.tokens) == "A"
    assert (found.starts.tolist(), found.ends.tolist(), found.frames.tolist()) == ([0], [3], [2])


def test_ids_that_share_a_token_are_one() -> None:
    decoder = CtcDecoder(Ctc(vocabulary=("<pad>", "a", "a"), blank=0, skipped=(), word_delimiter=None))
    assert decoder.text(decoder.greedy(logits_of([1, 2, 1], 3)).tokens) == "a"


def test_times_are_frames() -> None:
    [one, other] = LETTER_DECODER.words(greedy([0, 5, 5, 4, 0, 6, 0, 7, 7, 0]), 0.02)
    assert (one.text, other.text) == ("A", "BL")
    assert [one.start, one.end, other.start, other.end] == pytest.approx([0.02, 0.06, 0.1, 0.18])


def test_confidence_is_the_geometric_mean_over_the_frames_that_emit() -> None:
    probabilities = np.full((6, SIZE), 0.01, np.float32)
    best = [(5, 0.9), (5, 0.6), (0, 0.5), (6, 0.8), (4, 0.4), (7, 0.7)]
    for frame, (token, probability) in enumerate(best):
        probabilities[frame] = (1 - probability) / 10
        probabilities[frame, token] = probability
    found = LETTER_DECODER.greedy(np.log(probabilities) + 7)
    assert found.confidence == pytest.approx((0.9 * 0.6 * 0.8 * 0.4 * 0.7) ** (1 / 5), rel=1e-5)

    letters = {"A": 0.54**0.5, "B": 0.8, " ": 0.4, "L": 0.7}
    assert confidences(LETTER_DECODER.characters(found, 1)) == pytest.approx(letters, rel=1e-5)
    words = {"AB": (0.54 * 0.8) ** (1 / 3), "L": 0.7}
    assert confidences(LETTER_DECODER.words(found, 1)) == pytest.approx(words, rel=1e-5)


def confidences(pieces: Sequence[Piece]) -> dict[str, float | None]:
    return {piece.text: piece.confidence for piece in pieces}


@pytest.mark.parametrize("path", [[], [0, 0, 0], [4, 4], [1, 2, 3]])
def test_no_text(path: list[int]) -> None:
    found = greedy(path)
    assert LETTER_DECODER.text(found.tokens) == ""
    assert LETTER_DECODER.words(found, 1) == ()


def test_logits_of_any_size_do_not_overflow() -> None:
    assert LETTER_DECODER.greedy(logits_of([5, 6], scale=1e30)).confidence == pytest.approx(1)


def test_a_path_takes_eight_bytes_a_frame() -> None:
    path = CtcDecoder.path(logits_of([5, 6, 0]))
    assert {name: (str(array.dtype), array.shape) for name, array in path.items()} == {
        "ids": ("int32", (3,)),
        "log_probs": ("float32", (3,)),
    }


# Two ids spell alike, one is special; the blank, the word delimiter, letters.
SMALL = ("<pad>", "<unk>", "|", "A", "b", "b", "ß")


def small(*, lowercase: bool = False) -> CtcDecoder:
    ctc = Ctc(
        vocabulary=SMALL,
        blank=0,
        skipped=(1,),
        word_delimiter="|",
        replace_word_delimiter=" ",
        lowercase=lowercase,
    )
    return CtcDecoder(ctc)


def whole_text(ids: list[int], found: CtcDecoder) -> str:
    path = np.array(ids, np.int32)
    return found.text(found.emissions(path, np.zeros(len(path), np.float32)).tokens)


@given(st.lists(st.lists(st.integers(0, 6), max_size=8), max_size=8), st.booleans())
@example([[2, 3], [3, 0, 3], [], [2, 2], [2], [4]], False)  # "A A b", cut within a letter and among spaces
@example([[3, 1], [1, 3], [4], [5]], False)  # what is special does not part two letters
def test_all_increments_together_are_the_text(parts: list[list[int]], lowercase: bool) -> None:
    found = small(lowercase=lowercase)
    increments = Increments(found)
    deltas = [increments.add(np.array(part, np.int32)) for part in parts]
    assert "".join(deltas) == whole_text(list(itertools.chain(*parts)), found)


@pytest.mark.parametrize(
    ("parts", "deltas"),
    [
        ([[3, 2], [4]], ["A", " b"]),  # a space comes with what follows it
        ([[2, 3], [2]], ["A", ""]),
        ([[3], [3], [0, 3]], ["A", "", "A"]),
        ([[0, 0], [2, 2], [4]], ["", "", "b"]),
    ],
)
def test_each_increment_is_what_is_new(parts: list[list[int]], deltas: list[str]) -> None:
    increments = Increments(small())
    assert [increments.add(np.array(part, np.int32)) for part in parts] == deltas
