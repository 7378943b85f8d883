"""What a typed module is held to: it is as near to transformers as its precision allows, whatever stands beside."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from engines.batch import Clip, run_batch
from engines.manifest import Precision
from engines.verify import error
from export import parity
from export.exportable import Exportable
from export.precision.half import HALVES, in_half
from export.precision.session import encoder_session, step_session


def assert_judged(
    exportable: Exportable, clips: Sequence[Clip], precision: Precision, kept: Collection[str] = ()
) -> None:
    """Each clip alone and in a batch is within the limits, and what stands in the padding is never read."""
    typed = in_half(exportable, HALVES[precision], kept)
    session = encoder_session(typed)
    alone = [run_batch(session, [clip], typed.outputs)[0] for clip in clips]
    batch, other = (run_batch(session, clips, typed.outputs, padding) for padding in (float("nan"), 0.0))
    for rows in (alone, batch):
        parity.check(rows, exportable.reference, clips, precision)
    for row, same, single in zip(batch, other, alone, strict=True):
        assert all(np.array_equal(row[name], same[name]) for name in row)
        assert all(error(row[name], single[name]) <= parity.LIMITS[precision].error for name in row)
    if typed.decoder:
        parity.check_text(session, None, exportable.decoder or typed.decoder, clips, precision)
        parity.check_text(step_session(typed.decoder), session, exportable.decoder or typed.decoder, clips, precision)
