"""The rate at which this machine computes large products: the most that an engine can hope for.

For each precision it is the best of what the libraries that are installed reach, on the threads of the measurement. A
product is computed beside the engines that it is compared with: what slows the machine down slows both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from benchmarks.interleave import interleave, warm_up
from benchmarks.records.cells import Roof
from engines.manifest import Precision
from engines.runtimes import RuntimeOptions
from engines.runtimes.onnxruntime import configuration

# [m, k] x [k, n]: large enough that nothing but the product counts, and one as encoders have them.
SHAPES = ((1024, 1024, 1024), (1536, 768, 3072), (2048, 2048, 2048))
TINY = ((96, 64, 128),)
OPSET, IR_VERSION, CONTRIB = 20, 10, "com.microsoft"
# Instructions for products of a precision, as Linux names them, any of which will do: without them it is emulated.
INSTRUCTIONS: Mapping[Precision, tuple[str, ...]] = {
    "fp16": ("avx512_fp16", "asimdhp"),
    "bf16": ("avx512_bf16", "amx_bf16", "bf16"),
    "int8": ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"),
}
Shape = tuple[int, int, int]
Run = Callable[[], object]


@dataclass(frozen=True)
class Product:
    """A product [m, k] x [k, n] in some library."""

    precision: Precision
    library: str
    shape: Shape
    run: Run

    @property
    def operations(self) -> int:
        """Two for each multiplication and addition."""
        m, k, n = self.shape
        return 2 * m * k * n


def best(
    precisions: Sequence[Precision], threads: int, seconds: float, rounds: int, flags: Sequence[str], *, tiny: bool
) -> dict[Precision, tuple[Product, Roof]]:
    """Return the fastest product in each precision with what it reached; `flags` are those of the processor."""
    found: dict[Precision, tuple[Product, Roof]] = {}
    for precision in precisions:
        products = [each for shape in (TINY if tiny else SHAPES) for each in candidates(precision, threads, shape)]
        runs = {str(index): product.run for index, product in enumerate(products)}
        warm_up(runs)
        times = interleave(runs, seconds, rounds)
        rates = {index: products[int(index)].operations / float(np.median(taken)) for index, taken in times.items()}
        fastest = max(rates, key=lambda index: rates[index])
        product = products[int(fastest)]
        needed = INSTRUCTIONS.get(precision)
        roof = Roof(
            precision=precision,
            library=product.library,
            shape=product.shape,
            operations_per_second=rates[fastest],
            emulated=needed is not None and not set(needed) & set(flags),
        )
        found[precision] = product, roof
    return found


def candidates(precision: Precision, threads: int, shape: Shape) -> Iterator[Product]:
    """Yield the products of one shape in every library that has them.

    numpy is not among them: how many threads it takes cannot be set once it is imported.
    """
    makers: list[Callable[[Precision, int, Shape], Iterator[tuple[str, Run]]]] = [_torch, _onnxruntime]
    if find_spec("openvino"):
        makers.append(_openvino)
    for maker in makers:
        for library, run in maker(precision, threads, shape):
            yield Product(precision, library, shape, run)


def _torch(precision: Precision, threads: int, shape: Shape) -> Iterator[tuple[str, Run]]:
    torch.set_num_threads(threads)
    m, k, n = shape
    if precision == "int8":
        integers = [torch.randint(-100, 100, size, dtype=torch.int8) for size in ((m, k), (k, n))]
        yield "torch", lambda: torch._int_mm(*integers)
        return
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    left, right = (torch.randn(size).to(dtype) for size in ((m, k), (k, n)))
    result = torch.empty(m, n, dtype=dtype)
    yield "torch", lambda: torch.mm(left, right, out=result)


def _onnxruntime(precision: Precision, threads: int, shape: Shape) -> Iterator[tuple[str, Run]]:
    options = configuration.session_options(onnxruntime, RuntimeOptions("cpu", threads), on_gpu=False)
    for name, model, given in _models(precision, shape):
        session = onnxruntime.InferenceSession(model, options, providers=[configuration.CPU])
        yield f"onnxruntime {name}", lambda session=session, given=given: session.run(None, {"a": given})  # type: ignore[misc]


def _openvino(precision: Precision, threads: int, shape: Shape) -> Iterator[tuple[str, Run]]:
    import openvino

    core = openvino.Core()
    properties = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
    if precision == "fp32":
        _, model, given = next(_models("fp32", shape))
    elif precision == "int8":
        model, given = _quantized(shape)
    else:
        return
    compiled = core.compile_model(core.read_model(model), "CPU", {**properties, "INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    request.set_tensor(compiled.inputs[0], openvino.Tensor(given))
    yield "openvino", request.infer


def _models(precision: Precision, shape: Shape) -> Iterator[tuple[str, bytes, np.ndarray]]:
    """Yield the operators of ONNX Runtime's CPU that multiply in `precision`: name, model and its input."""
    m, k, n = shape
    left, right = _floats(m, k), _floats(k, n)
    if precision == "fp32":
        yield "MatMul", _model([_node("MatMul", "a", "b")], left, {"b": right}, shape), left
    if precision == "int8":
        weights, scales = _integers(k, n), np.full(n, 0.01, np.float32)
        bytes_ = _integers(m, k).astype(np.uint8)
        yield "MatMulInteger", _model([_node("MatMulInteger", "a", "b")], bytes_, {"b": weights}, shape), bytes_
        dynamic = _node("DynamicQuantizeMatMul", "a", "b", "s", domain=CONTRIB)
        yield "DynamicQuantizeMatMul", _model([dynamic], left, {"b": weights, "s": scales}, shape), left


def _quantized(shape: Shape) -> tuple[bytes, np.ndarray]:
    """Return a product of integers as OpenVINO recognizes it, and its input, which is quantized by a constant."""
    m, k, n = shape
    constants: dict[str, np.ndarray] = {
        "step": np.array(0.03, np.float32),
        "middle": np.array(128, np.uint8),
        "b": _integers(k, n),
        "steps": np.full(n, 0.01, np.float32),
        "zeros": np.zeros(n, np.int8),
    }
    nodes = [
        _node("QuantizeLinear", "a", "step", "middle", to="q"),
        _node("DequantizeLinear", "q", "step", "middle", to="left"),
        _node("DequantizeLinear", "b", "steps", "zeros", to="right", axis=1),
        _node("MatMul", "left", "right"),
    ]
    given = _floats(m, k)
    return _model(nodes, given, constants, shape), given


def _node(operator: str, *inputs: str, to: str = "y", **attributes: Any) -> Any:
    return helper.make_node(operator, list(inputs), [to], **attributes)


def _model(nodes: Sequence[Any], given: np.ndarray, constants: Mapping[str, np.ndarray], shape: Shape) -> bytes:
    """Return a model that reads `a`, as `given`, and computes `y` [m, n]."""
    m, _, n = shape
    kind = TensorProto.INT32 if nodes[-1].op_type == "MatMulInteger" else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("a", helper.np_dtype_to_tensor_dtype(given.dtype), given.shape)],
        [helper.make_tensor_value_info("y", kind, [m, n])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    return bytes(model.SerializeToString())


def _floats(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, columns)).astype(np.float32)


def _integers(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-100, 100, (rows, columns)).astype(np.int8)
