"""What the other tests rest on."""

from __future__ import annotations

import torch

from tests.support import perturb


def test_perturbing_moves_every_parameter() -> None:
    module = torch.nn.BatchNorm1d(3)
    before = {name: value.clone() for name, value in module.state_dict().items() if value.is_floating_point()}
    perturb(module, seed=0)
    assert all((module.state_dict()[name] != value).any() for name, value in before.items())
