import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.manifest import Search
from server.decoding.search import NONE_YET, Plan, best_sums, log_softmax, top_k
from tests.server.decoding.translators import (
    CONFIGS,
    EOS,
    START,
    VOCABULARY,
    generation,
    reference,
    stepper,
    translator,
    write,
)

# Two texts whose scores are closer than this are alike to float32: either may win.
TIE = 1e-4

suppressed = st.integers(3, 18)  # not one that is forced, which transformers refuses
searches = st.builds(
    Search,
    max_length=st.integers(2, 24),
    min_length=st.integers(0, 8),
    num_beams=st.integers(1, 6),
    length_penalty=st.sampled_from([0.0, 0.6, 1.0, 2.0, -1.0]),
    early_stopping=st.sampled_from([False, True, "never"]),
    repetition_penalty=st.sampled_from([1.0, 1.0, 1.3, 0.8]),
    no_repeat_ngram_size=st.sampled_from([0, 0, 1, 2, 3]),
    suppress_tokens=st.lists(suppressed, max_size=2).map(tuple),
    begin_suppress_tokens=st.lists(suppressed | st.just(EOS), max_size=2).map(tuple),
    forced_bos_token_id=st.none() | st.integers(20, VOCABULARY - 1),
    forced_eos_token_id=st.sampled_from([None, EOS]),
)


@pytest.mark.filterwarnings("ignore:Unfeasible length constraints")
def test_the_texts_are_those_of_transformers() -> None:
    seen: Counter[str] = Counter()
    texts = set()

    @settings(max_examples=100)
    @given(
        st.sampled_from(sorted(CONFIGS)),
        st.integers(0, 2),
        st.integers(0, 9),
        searches,
        st.sampled_from([(EOS,), (EOS, 7), ()]),
    )
    def compare(kind: str, seed: int, clip: int, search: Search, eos_tokens: tuple[int, ...]) -> None:
        model = translator(kind, seed)
        expected, scores = reference(model, clip, search, eos_tokens)
        found = write(Plan(generation(search, eos_tokens), search), stepper(model, clip))
        # What is suppressed may leave fewer texts; then transformers fills up with texts whose score is that of none.
        likely = [
            (text, score)
            for text, score in zip(expected, scores or [found[0].score], strict=True)
            if score > NONE_YET / 2
        ]
        assert len(found) == max(len(likely), 1)
        for (text, score), mine in zip(likely, found, strict=False):
            assert mine.score == pytest.approx(score, rel=1e-6, abs=TIE)
            seen["ties"] += text != mine.tokens
        best = expected[0]
        texts.add(best)
        seen["all"] += 1
        seen["ended"] += len(best) < search.max_length - 1 and set(best[-1:]) <= set(eos_tokens)

    compare()
    assert seen["all"] >= 100
    assert seen["ended"] >= 10
    assert len(texts) >= 50
    assert seen["ties"] <= 1


def test_several_are_found_best_first() -> None:
    search = Search(max_length=12, num_beams=5)
    found = write(Plan(generation(search), search), stepper(translator("bert", 0), 0))
    assert len(found) == 5
    assert len({one.tokens for one in found}) == 5
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


@pytest.mark.parametrize("beams", [1, 4])
def test_the_confidence_is_the_models_own(beams: int) -> None:
    search = Search(max_length=10, num_beams=beams, forced_bos_token_id=9, repetition_penalty=1.5)
    step = stepper(translator("gpt2", 1), 0)
    for found in write(Plan(generation(search), search), step):
        logs = [
            log_softmax(step(np.array([[START, *found.tokens[:index]]])))[0, token]
            for index, token in enumerate(found.tokens)
        ]
        assert found.tokens[0] == 9
        assert found.confidence == pytest.approx(np.exp(np.mean(logs[1:])), rel=1e-5)


def test_a_text_of_nothing_but_forced_tokens() -> None:
    search = Search(max_length=2, forced_bos_token_id=EOS)
    for beams in (1, 3):
        asked = search.model_copy(update={"num_beams": beams})
        [found] = write(Plan(generation(asked), asked), stepper(translator("bert", 0), 0))
        assert found.tokens == (EOS,)
        assert found.confidence is None


@pytest.mark.parametrize("beams", [1, 4])
def test_what_leaves_no_token_ends(beams: int) -> None:
    search = Search(max_length=5, num_beams=beams, suppress_tokens=tuple(range(VOCABULARY)))
    assert len(write(Plan(generation(search), search), stepper(translator("bert", 0), 0))) == 1


@pytest.mark.parametrize("beams", [1, 3])
def test_a_seed_makes_a_text_repeatable(beams: int) -> None:
    search = Search(max_length=16, num_beams=beams, do_sample=True, temperature=2.0)
    step = stepper(translator("bart", 0), 0)
    texts = [write(Plan(generation(search), search, seed), step)[0].tokens for seed in (1, 1, 2, 3, 4)]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 2


def test_tokens_are_drawn_by_their_probability() -> None:
    logits = np.log(np.array([[0.5, 0.3, 0.15, 0.05]], np.float32))
    search = Search(max_length=2, do_sample=True, top_k=3, temperature=0.5)
    plan = Plan(generation(search), search)
    drawn: Counter[int] = Counter()
    for seed in range(4000):
        searcher = Plan(plan.generation, search, seed).begin()
        searcher.advance(logits)
        drawn[int(searcher.tokens[0])] += 1
    expected = np.array([0.5, 0.3, 0.15]) ** 2
    assert [drawn[token] / 4000 for token in range(4)] == pytest.approx([*expected / expected.sum(), 0], abs=0.03)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=1000), st.integers(1, 12))
def test_the_largest_are_found(values: list[int], count: int) -> None:
    array = np.array(values, np.float32)
    assert top_k(array, count).tolist() == np.argsort(-array, kind="stable")[:count].tolist()


def test_the_best_of_all_combinations() -> None:
    generator = np.random.default_rng(1)
    parts = [sorted(generator.normal(size=size).tolist(), reverse=True) for size in (3, 1, 4, 2)]
    every = sorted(
        (
            (sum(score), places)
            for places in itertools.product(*map(range, (3, 1, 4, 2)))
            for score in [[part[place] for part, place in zip(parts, places, strict=True)]]
        ),
        reverse=True,
    )
    for count in (1, 5, 100):
        found = best_sums(parts, count)
        assert [places for _, places in found] == [places for _, places in every[:count]]
        assert [score for score, _ in found] == [pytest.approx(score) for score, _ in every[:count]]


def test_none_are_asked_for() -> None:
    assert best_sums([[1.0], [2.0, 1.0]], 0) == []


def test_there_is_nothing_to_combine() -> None:
    assert best_sums([], 3) == [(0.0, ())]
