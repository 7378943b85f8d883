from __future__ import annotations

import math
from importlib.util import find_spec

import pytest

from benchmarks.engines import roofline
from benchmarks.engines.roofline import Product
from engines.manifest import Precision

LIBRARIES: dict[Precision, set[str]] = {
    "fp32": {"torch", "onnxruntime MatMul", "openvino"},
    "bf16": {"torch"},
    "int8": {"torch", "onnxruntime MatMulInteger", "onnxruntime DynamicQuantizeMatMul", "openvino"},
}


@pytest.mark.parametrize("precision", list(LIBRARIES))
def test_every_library_that_is_there_has_its_say(precision: Precision) -> None:
    [shape] = roofline.TINY
    products = list(roofline.candidates(precision, 1, shape))
    there = {"torch", "onnxruntime", *["openvino"] * bool(find_spec("openvino"))}
    assert {product.library for product in products} == {
        name for name in LIBRARIES[precision] if name.split()[0] in there
    }
    for product in products:
        product.run()
        assert (product.shape, product.operations) == (shape, 2 * math.prod(shape))


def test_the_fastest_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its rate: the large product takes longer, and the small one wastes more."""
    shapes = {"small": (10, 10, 10), "large": (100, 100, 100)}
    products = [Product("fp32", name, shape, lambda: None) for name, shape in shapes.items()]
    monkeypatch.setattr(roofline, "candidates", lambda precision, threads, shape: iter(products))
    monkeypatch.setattr(roofline, "interleave", lambda runs, seconds, rounds: {"0": [1.0, 9.0, 1.0], "1": [500.0] * 3})
    product, roof = roofline.best(["fp32"], 1, 0.0, 3, [], tiny=True)["fp32"]
    assert (product.library, roof.library, roof.shape) == ("large", "large", (100, 100, 100))
    assert roof.operations_per_second == pytest.approx(2e6 / 500)


def test_what_a_processor_has_no_instructions_for_is_said() -> None:
    found = roofline.best(["fp32", "bf16", "int8"], 1, 0.0, 1, ["avx2", "avx512_vnni"], tiny=True)
    assert {precision: roof.emulated for precision, (_, roof) in found.items()} == {
        "fp32": False,
        "bf16": True,
        "int8": False,
    }
    assert all(0 < roof.operations_per_second < math.inf for _, roof in found.values())
