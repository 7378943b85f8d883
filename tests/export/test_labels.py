from __future__ import annotations

import pytest
from transformers import PreTrainedConfig

from export.errors import CheckpointError
from export.labels import classification_of


def test_labels_stand_in_the_order_of_their_ids() -> None:
    found = classification_of(PreTrainedConfig(id2label={1: "no", 0: "yes"}, label2id={"yes": 0, "no": 1}))
    assert (found.labels, found.problem_type) == (("yes", "no"), "single_label_classification")


def test_a_single_label_is_a_regression_unless_the_checkpoint_says_otherwise() -> None:
    assert classification_of(PreTrainedConfig(id2label={0: "height"})).problem_type == "regression"
    config = PreTrainedConfig(id2label={0: "height"}, problem_type="multi_label_classification")
    assert classification_of(config).problem_type == "multi_label_classification"


def test_ids_with_a_gap_are_refused() -> None:
    config = PreTrainedConfig()
    config.id2label = {0: "yes", 2: "no"}
    with pytest.raises(CheckpointError, match="id2label"):
        classification_of(config)
