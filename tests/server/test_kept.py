import pytest

from engines.manifest import Output
from server.kept import Kept
from tests.server.tasks.manifests import manifest

WIDTH = 4


def test_all_frames_of_each_output_are_kept() -> None:
    [frames] = {Kept([name]).size(manifest(), 16_000) // (4 * WIDTH) for name in ("embeddings", "hidden_states.2")}
    assert 49 <= frames <= 51  # the engine decides what becomes of the last samples
    assert Kept(["embeddings", "hidden_states.2"]).size(manifest(), 16_000) == 2 * frames * 4 * WIDTH


def test_one_vector_of_each_is_kept_where_frames_are_pooled() -> None:
    for timed in (True, False):
        assert Kept(["embeddings"], pooled=True).size(manifest(timed=timed), 16_000) == 4 * WIDTH


def test_rows_that_are_not_frames_are_as_many_for_any_clip() -> None:
    assert Kept(["embeddings"]).size(manifest(timed=False), 1) == 7 * WIDTH * 4
    assert Kept(["embeddings"]).size(manifest(timed=False), 99_999) == 7 * WIDTH * 4


def test_attentions_grow_with_the_square() -> None:
    attention = Output(name="a", shape=("batch", 2, "frames", "frames"), lengths="frames", samples_per_frame=320)
    of = manifest().model_copy(update={"outputs": (attention,)})
    assert Kept(["a"]).size(of, 320_000) == 4 * 2 * 1001**2


def test_the_answer_counts_too() -> None:
    array, answer = (Kept(["embeddings"], answer_bytes=size).size(manifest(), 16_000) for size in (0, 20))
    assert answer == pytest.approx(6 * array)
