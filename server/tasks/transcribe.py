"""transcribe: a clip -> the text that is spoken in it."""

from __future__ import annotations

from engines.batch import Row
from engines.manifest import Manifest
from server.decoding.ctc import CtcDecoder, Transcript
from server.errors import OptionNotSupportedError, TaskNotSupportedError
from server.schemas import TranscribeOptions


class Transcribe:
    """The task, for one engine and one set of options."""

    outputs = ("logits",)

    def __init__(self, manifest: Manifest, options: TranscribeOptions) -> None:
        """Raise OptionNotSupportedError for an option that cannot be honoured."""
        if manifest.ctc is None:
            raise TaskNotSupportedError("the model has no CTC vocabulary", "model")
        refuse_unsupported(options)
        self._decoder = CtcDecoder(manifest.ctc)

    def result(self, row: Row) -> Transcript:
        """Return the text of the best path, with its confidence."""
        return self._decoder.greedy(row["logits"])


def refuse_unsupported(options: TranscribeOptions) -> None:
    """Raise OptionNotSupportedError where `options` ask for more than the greedy text."""
    asked = {
        "timestamps": options.timestamps != "none",
        "beams": options.beams != 1,
        "hotwords": bool(options.hotwords),
        "language": bool(options.language),
    }
    for name, is_asked in asked.items():
        if is_asked:
            raise OptionNotSupportedError(f"'{name}' is not supported by this model: leave it out", name)
