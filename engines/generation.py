"""Writing text one token at a time: what a decoder keeps of the clips that it writes about.

The graph of role `start` maps waveform and lengths, as every graph does, to `frames` int64 [clips], the frames of each
clip that the decoder may look at, and for each decoder layer to `cross.N.key` and `cross.N.value` [clips, heads,
frames, head_size], computed once. The graph of role `step` maps

- `tokens` int64 [clips, beams], the last token of each row,
- `parents` int64 [clips x beams], the row of `past` that each row continues,
- `frames` and `cross.N.*` as above: the beams of a clip share them,
- `past.N.key` and `past.N.value` [rows, heads, steps, head_size], of 0 steps at first,

to `logits` [clips, beams, vocabulary] and `present.N.*` [clips x beams, heads, steps + 1, head_size].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engines.batch import Clip, Row, pad
from engines.manifest import LOGITS, TOKENS, Generation
from engines.runtimes import ResidentSession, Value

FRAMES, PARENTS = "frames", "parents"


def start_outputs(generation: Generation) -> tuple[str, ...]:
    """Return the names of what a start graph computes."""
    return (FRAMES, *generation.cross)


def step_inputs(generation: Generation) -> tuple[str, ...]:
    """Return the names of what a step graph reads."""
    return (TOKENS, PARENTS, FRAMES, *generation.past, *generation.cross)


def step_outputs(generation: Generation) -> tuple[str, ...]:
    """Return the names of what a step graph computes."""
    return (LOGITS, *generation.present)


class State:
    """Clips that are being written about, each in `beams` rows. Its arrays stay where the step graph runs.

    It belongs to one thread at a time.
    """

    def __init__(self, beams: int, rows: NDArray[np.int64], frames: NDArray[np.int64], cross: dict[str, Value]) -> None:
        self.beams = beams
        self.steps = 0  # tokens that each row has taken
        self.past: dict[str, Value] = {}  # by the names of the step graph's inputs; none before the first step
        self.cross = cross
        self.frames = frames
        self.rows = rows  # the first row of each clip in `past`

    @property
    def clips(self) -> int:
        """How many clips there are left."""
        return len(self.rows)

    def keep(self, clips: Sequence[int]) -> None:
        """Go on with these clips, in this order, and forget the others.

        The longest that is left says how many frames are kept of each. On a GPU the kept part of `cross` goes through
        host memory, once for every call that drops a clip; the rows of `past` leave with the next step.
        """
        kept = np.asarray(clips, np.int64)
        if np.array_equal(kept, np.arange(self.clips)):
            return
        self.frames = self.frames[kept]
        # Before the first step there are no rows yet: those that are made then are of the clips that are left.
        self.rows = self.rows[kept] if self.past else np.arange(len(kept)) * self.beams
        longest = max(int(self.frames.max(initial=0)), 1)
        self.cross = {name: value.select(kept, longest) for name, value in self.cross.items()}


def start(
    session: ResidentSession, generation: Generation, clips: Sequence[Clip], beams: int, padding: float = 0.0
) -> State:
    """Run the start graph on `clips` as one padded batch.

    `padding` is what fills the waveform beyond each clip: it is never read, so it may be anything.
    """
    waveform, lengths = pad(clips, padding)
    inputs = {"waveform": session.place(waveform), "lengths": session.place(lengths)}
    values = session.compute(inputs, start_outputs(generation))
    frames = values.pop(FRAMES).numpy().astype(np.int64)
    return State(beams, np.arange(len(clips)) * beams, frames, values)


def step(
    session: ResidentSession,
    generation: Generation,
    state: State,
    tokens: NDArray[np.int64],
    parents: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Advance every row of `state` by its token and return the logits of the next, [clips, beams, vocabulary].

    `tokens` and `parents` are [clips, beams]; `parents[c, b]` is the beam of clip c whose tokens row b continues, 0 at
    the first step. Raises ValueError for other shapes, for a beam that there is not, and beyond the last position.
    """
    shape = (state.clips, state.beams)
    if tokens.shape != shape or parents.shape != shape:
        raise ValueError(f"tokens {tokens.shape} and parents {parents.shape} must be {shape}: clips and beams")
    if parents.size and not (parents.min() >= 0 and parents.max() < state.beams):
        raise ValueError(f"a parent is none of the {state.beams} beams")
    if state.steps == generation.max_positions:
        raise ValueError(f"the decoder has no position beyond {state.steps} tokens")
    past = state.past or {name: session.place(_nothing(generation, tokens.size)) for name in generation.past}
    inputs = {
        TOKENS: session.place(np.ascontiguousarray(tokens, np.int64)),
        PARENTS: session.place((state.rows[:, None] + parents).astype(np.int64).ravel()),
        FRAMES: session.place(state.frames),
    }
    values = session.compute({**inputs, **past, **state.cross}, step_outputs(generation))
    logits = values.pop(LOGITS).numpy().astype(np.float32, copy=False)
    state.past = dict(zip(generation.past, values.values(), strict=True))
    state.rows = np.arange(state.clips) * state.beams
    state.steps += 1
    return logits


def follow(
    session: ResidentSession, generation: Generation, state: State, texts: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Give each clip of a fresh `state` its row of `texts` [clips, steps], token by token.

    Returns the logits after each token, [clips, steps, vocabulary]. Where there are several beams, the text moves to
    another with every step, and the others get tokens of no meaning: the logits show that a row continues its parent.
    """
    everywhere = np.ones((state.clips, state.beams), np.int64)
    logits = np.empty((*texts.shape, generation.vocabulary_size), np.float32)
    for index, tokens in enumerate(texts.T):
        bearing = index % state.beams
        others = np.arange(state.beams) != bearing
        parents = everywhere * (max(index - 1, 0) % state.beams)
        given = (tokens[:, None] + others) % generation.vocabulary_size
        logits[:, index] = step(session, generation, state, given, parents)[:, bearing]
    return logits


def cross_rows(
    session: ResidentSession, generation: Generation, clips: Sequence[Clip], padding: float = 0.0
) -> list[Row]:
    """Return what the start graph computes of each clip, cut to its frames."""
    state = start(session, generation, clips, 1, padding)
    arrays = {name: value.numpy() for name, value in state.cross.items()}
    return [
        {name: array[index, :, :frames] for name, array in arrays.items()} for index, frames in enumerate(state.frames)
    ]


def _nothing(generation: Generation, rows: int) -> NDArray[np.float32]:
    """Return the keys or values of no step."""
    return np.zeros((rows, generation.heads, 0, generation.head_size), np.float32)
