import hashlib
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from engines.errors import EngineInvalidError, EngineNotFoundError, EngineTamperedError
from engines.manifest import Generation, Search
from server.decoding.text import TextDecoder

TOKENS = [
    "<pad>",
    "<s>",
    "</s>",
    "<unk>",
    "don",
    "'",
    "t",
    "stop",
    ".",
    "we",
    "n't",
    "go",
    "##ing",
    ",",
    "'re",
    "!",
    "<x>",
]
SKIPPED = (0, 1, 2, 16)


@pytest.fixture
def tokenizer(tmp_path: Path) -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordPiece({token: index for index, token in enumerate(TOKENS)}, unk_token=TOKENS[3]))
    words.decoder = decoders.WordPiece(cleanup=False)
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=words, additional_special_tokens=["<x>"], **names)
    wrapped.save_pretrained(tmp_path)
    return wrapped


def generation(folder: Path, *, clean_up: bool = True) -> Generation:
    content = (folder / "tokenizer.json").read_bytes()
    return Generation(
        tokenizer="tokenizer.json",
        tokenizer_sha256=hashlib.sha256(content).hexdigest(),
        layers=1,
        heads=1,
        head_size=1,
        vocabulary_size=len(TOKENS),
        start_token=1,
        eos_tokens=(2,),
        pad_token=0,
        skipped=SKIPPED,
        clean_up_spaces=clean_up,
        search=Search(max_length=9),
    )


@pytest.mark.parametrize("clean_up", [True, False])
@pytest.mark.parametrize(
    "tokens",
    [
        [],
        [1, 2],
        [1, 4, 5, 6, 7, 8, 2, 0, 0],
        [9, 14, 11, 12, 13, 16, 9, 10, 7, 15, 2],
        [12, 3, 8, 8],
    ],
)
def test_the_text_is_that_of_transformers(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, tokens: list[int], *, clean_up: bool
) -> None:
    expected = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=clean_up)
    assert TextDecoder(tmp_path, generation(tmp_path, clean_up=clean_up)).decode(tokens) == expected


def test_a_file_that_is_not_as_exported(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    expected = generation(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(EngineTamperedError, match=r"tokenizer\.json"):
        TextDecoder(tmp_path, expected)
    path.write_text("{}")
    with pytest.raises(EngineInvalidError, match="export the engine again"):
        TextDecoder(tmp_path, generation(tmp_path))
    path.unlink()
    with pytest.raises(EngineNotFoundError):
        TextDecoder(tmp_path, expected)
