"""Tokens -> text, as the checkpoint's tokenizer decodes them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from engines.errors import EngineInvalidError
from engines.manifest import Generation
from engines.verify import check_file

# In this order, as PreTrainedTokenizerBase.clean_up_tokenization of transformers.
CLEAN_UP = {
    " .": ".",
    " ?": "?",
    " !": "!",
    " ,": ",",
    " ' ": "'",
    " n't": "n't",
    " 'm": "'m",
    " 's": "'s",
    " 've": "'ve",
    " 're": "'re",
}


class TextDecoder:
    """Decodes the tokens of one engine."""

    def __init__(self, folder: Path, generation: Generation) -> None:
        """Read the tokenizer of the engine in `folder`. Raises EngineError where the file is not as exported."""
        from tokenizers import Tokenizer  # 4 MB that a server without such a model does not need

        path = folder / generation.tokenizer
        check_file(path, generation.tokenizer_sha256)
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises nothing more special
            raise EngineInvalidError(f"{path} cannot be read ({error}); export the engine again") from None
        self._skipped = frozenset(generation.skipped)
        self._clean_up = CLEAN_UP if generation.clean_up_spaces else {}

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of `tokens`, without special tokens."""
        text = self._tokenizer.decode([token for token in tokens if token not in self._skipped])
        for spaced, clean in self._clean_up.items():
            text = text.replace(spaced, clean)
        return text
