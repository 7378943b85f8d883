from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer, BertConfig

from export import tokenizer
from export.checkpoint import Checkpoint
from export.errors import CheckpointError, UnsupportedError
from export.tokenizer import LANGUAGE, text_of

WORDS = [
    "hello",
    "world",
    "##ing",
    "##s",
    "n",
    "'",
    "t",
    ".",
    ",",
    "the",
    "cat",
    "sat",
    "!",
    "?",
    "m",
    "ve",
    "##é",
    "ß",
]


def checkpoint(folder: Path) -> Checkpoint:
    """A checkpoint whose tokenizer is read as that of a BERT decoder."""
    BertConfig().save_pretrained(folder)
    return Checkpoint(folder, "someone/speech", None)


def write_wordpiece(folder: Path, **settings: object) -> int:
    """Write vocab.txt as the original BERT has it, without a tokenizer.json; return how many tokens there are."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **settings}))
    return len(tokens)


@pytest.mark.parametrize("clean_up", [True, False])
def test_a_word_piece_vocabulary_becomes_one_file(tmp_path: Path, clean_up: bool) -> None:
    size = write_wordpiece(tmp_path, clean_up_tokenization_spaces=clean_up)
    text = text_of(checkpoint(tmp_path), size)
    assert text.skipped == (0, 1, 2, 3, 4)
    assert text.clean_up_spaces == clean_up
    assert text.languages == {}
    assert Tokenizer.from_str(text.content.decode()).decode([5, 7, 8, 15, 5]) == "helloings cat hello"


def test_more_tokens_than_the_tokenizer_knows_write_nothing(tmp_path: Path) -> None:
    size = write_wordpiece(tmp_path)
    assert text_of(checkpoint(tmp_path), size + 9).skipped == (0, 1, 2, 3, 4)


def test_a_checkpoint_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="its vocabulary is missing"):
        text_of(checkpoint(tmp_path), 10)


def test_a_file_that_writes_something_else_is_refused_with_the_first_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = write_wordpiece(tmp_path, clean_up_tokenization_spaces=True)
    monkeypatch.setattr(tokenizer, "_cleans_up", lambda original, backend: False)
    with pytest.raises(UnsupportedError, match=r"someone/speech: Bert\w+ cannot be converted .* for the tokens \["):
        text_of(checkpoint(tmp_path), size)


def test_byte_pairs_keep_their_spaces(tmp_path: Path) -> None:
    from tokenizers import decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    backend.train_from_iterator(["the cat sat , and sat . é ß"] * 9, trainer)
    size = backend.get_vocab_size()
    model = json.loads(backend.to_str())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    settings = {"tokenizer_class": "GPT2Tokenizer", "clean_up_tokenization_spaces": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    text = text_of(checkpoint(tmp_path), size)
    assert not text.clean_up_spaces
    ids = AutoTokenizer.from_pretrained(tmp_path)("sat , and sat .")["input_ids"]
    assert Tokenizer.from_str(text.content.decode()).decode(ids) == "sat , and sat ."


def test_a_sentencepiece_model_is_converted_and_writes_what_sentencepiece_writes(tmp_path: Path) -> None:
    import sentencepiece

    corpus = tmp_path / "corpus.txt"
    corpus.write_text(
        "\n".join(
            ["the cat sat on the mat", "ein Hund und eine Katze", "größer als je zuvor", "quick brown foxes jump"] * 30
        )
    )
    model = tmp_path / "sentencepiece.bpe.model"
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(model.with_suffix("")), vocab_size=40, hard_vocab_limit=False, minloglevel=2
    )
    corpus.unlink()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "MBart50Tokenizer"}))
    original: Any = AutoTokenizer.from_pretrained(tmp_path)
    text = text_of(checkpoint(tmp_path), len(original))
    assert text.languages["de_DE"] == original.convert_tokens_to_ids("de_DE")
    assert len(text.languages) == 52
    assert set(text.languages.values()) <= set(text.skipped)
    converted = Tokenizer.from_str(text.content.decode())
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    for sentence in ("the cat sat", "ein Hund", "größer als die Katze"):
        pieces = processor.encode(sentence, out_type=str)
        ids: list[int] = original.convert_tokens_to_ids(pieces)
        assert original.convert_ids_to_tokens(ids) == pieces
        assert converted.decode([text.languages["de_DE"], *ids, original.eos_token_id]) == processor.decode(pieces)


@pytest.mark.parametrize(
    ("token", "code"),
    [("en_XX", "en_XX"), ("eng_Latn", "eng_Latn"), ("__de__", "de"), ("<pad>", None), ("<s>", None), ("[SEP]", None)],
)
def test_special_tokens_that_are_languages(token: str, code: str | None) -> None:
    match = LANGUAGE.fullmatch(token)
    assert (match and (match[1] or match[2])) == code
