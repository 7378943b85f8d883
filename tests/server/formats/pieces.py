"""Words with times: chosen ones, and what hypothesis draws."""

import itertools
from collections.abc import Sequence

from hypothesis import strategies as st

from server.decoding.transcript import Piece

FRAME = 0.02


def spoken(text: str, *, seconds: float = 0.3, pause: float = 0.1, start: float = 0.0) -> tuple[Piece, ...]:
    """Return the words of `text`, each of `seconds`, with a `pause` between them."""
    texts = text.split()
    starts = [start + place * (seconds + pause) for place in range(len(texts))]
    return tuple(Piece(word, at, at + seconds, 0.9) for word, at in zip(texts, starts, strict=True))


def timed(texts: Sequence[str], frames: Sequence[tuple[int, int]], confidence: float | None = 0.5) -> list[Piece]:
    """Return `texts`, each after some frames of pause and so many frames long."""
    edges = list(itertools.accumulate(frame for pair in frames for frame in pair))
    return [
        Piece(text, edges[2 * place] * FRAME, edges[2 * place + 1] * FRAME, confidence)
        for place, text in enumerate(texts)
    ]


TEXTS = st.text(max_size=60)


@st.composite
def words(draw: st.DrawFn, texts: st.SearchStrategy[str] = TEXTS) -> tuple[Piece, ...]:
    """Draw words in the order of their times: pauses of up to 2 s, words of up to 8 s."""
    spelled = draw(st.lists(texts, max_size=60))
    frame = st.tuples(st.integers(0, 100), st.integers(1, 400) | st.integers(1, 30))
    return tuple(timed(spelled, draw(st.lists(frame, min_size=len(spelled), max_size=len(spelled)))))
