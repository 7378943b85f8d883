import numpy as np
import pytest

from engines.manifest import ProblemType
from server.errors import TaskNotSupportedError
from server.schemas.options import ClassifyOptions, ScoreFunction
from server.tasks.classify import Classify, Label, scores
from server.windows import Span, Window
from tests.server.tasks.manifests import manifest

LOGITS = np.array([0.5, 2.0, -1.0], np.float32)


def classify(problem_type: ProblemType, options: ClassifyOptions) -> list[Label]:
    return Classify(manifest(problem_type), options).result([Window({"logits": LOGITS}, Span.whole(16_000))])


def test_the_best_come_first() -> None:
    labels = classify("single_label_classification", ClassifyOptions())
    assert [label.label for label in labels] == ["dog", "cat", "bird"]
    assert sum(label.score for label in labels) == pytest.approx(1)


def test_top_k() -> None:
    assert len(classify("single_label_classification", ClassifyOptions(top_k=2))) == 2
    assert len(classify("single_label_classification", ClassifyOptions(top_k=99))) == 3


@pytest.mark.parametrize(
    ("problem_type", "expected"),
    [
        ("single_label_classification", np.exp(2) / np.exp([0.5, 2.0, -1.0]).sum()),
        ("multi_label_classification", 1 / (1 + np.exp(-2))),
        ("regression", 2.0),
    ],
)
def test_the_function_follows_the_problem_type(problem_type: ProblemType, expected: float) -> None:
    assert classify(problem_type, ClassifyOptions())[0].score == pytest.approx(expected)


def test_the_function_can_be_chosen() -> None:
    assert classify("single_label_classification", ClassifyOptions(function="none"))[0].score == 2.0


@pytest.mark.parametrize("function", ["softmax", "sigmoid"])
def test_large_logits_do_not_overflow(function: ScoreFunction) -> None:
    values = scores(np.array([1e4, -1e4], np.float32), function)
    np.testing.assert_allclose(values, [1, 0])


def test_equal_scores_keep_the_order_of_the_labels() -> None:
    windows = [Window({"logits": np.zeros(3, np.float32)}, Span.whole(16_000))]
    labels = Classify(manifest("regression"), ClassifyOptions()).result(windows)
    assert [label.label for label in labels] == ["cat", "dog", "bird"]


@pytest.mark.parametrize("function", ["softmax", "sigmoid", "none"])
def test_the_scores_of_windows_are_averaged_by_their_lengths(function: ScoreFunction) -> None:
    windows = [Window({"logits": LOGITS}, Span(0, 300, 0, 300)), Window({"logits": -LOGITS}, Span(200, 400, 300, 400))]
    labels = Classify(manifest("regression"), ClassifyOptions(function=function)).result(windows)
    expected = 0.75 * scores(LOGITS, function) + 0.25 * scores(-LOGITS, function)
    assert [label.score for label in labels] == pytest.approx(sorted(expected, reverse=True))


def test_a_time_line_has_the_labels_of_each_window() -> None:
    windows = [
        Window({"logits": LOGITS}, Span(0, 16_000, 0, 16_000)),
        Window({"logits": -LOGITS}, Span(12_000, 20_000, 16_000, 20_000)),
    ]
    task = Classify(manifest("single_label_classification"), ClassifyOptions(timeline=True, top_k=2))
    first, second = task.timeline(windows)
    assert (first.start, first.end, second.start, second.end) == (0, 1, 1, 1.25)
    assert [label.label for label in first.labels] == ["dog", "cat"]
    assert [label.label for label in second.labels] == ["bird", "cat"]
    assert first.labels == Classify(manifest("single_label_classification"), ClassifyOptions(top_k=2)).result(
        windows[:1]
    )


def test_long_clips_are_windowed_unless_that_is_refused() -> None:
    assert Classify(manifest("regression"), ClassifyOptions()).windowed
    assert not Classify(manifest("regression"), ClassifyOptions(windows="none")).windowed


def test_a_model_without_labels() -> None:
    with pytest.raises(TaskNotSupportedError):
        Classify(manifest(), ClassifyOptions())
