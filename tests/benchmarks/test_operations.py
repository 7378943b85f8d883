from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks import models, recipes
from benchmarks.engines import operations
from benchmarks.engines.kinds import OTHER, kind
from benchmarks.engines.profiling import Node, Shape, profiled, read
from engines.batch import run_batch
from engines.manifest import BASE, Graph, Output

SAMPLES, CHANNELS, KERNEL, WIDTH = 32, 3, 4, 5
FRAMES = SAMPLES // KERNEL


def node(operator: str, *inputs: Shape, output: Shape) -> Node:
    return Node("one", operator, 0.0, inputs, (output,))


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    """A convolution over the waveform, in frames, and a product of each; before it the waveform is doubled."""
    generator = np.random.default_rng(0)
    weights = {
        "kernel": generator.standard_normal((CHANNELS, 1, KERNEL)).astype(np.float32),
        "matrix": generator.standard_normal((CHANNELS, WIDTH)).astype(np.float32),
        "axis": np.array([1]),
    }
    nodes = [
        helper.make_node("Add", ["waveform", "waveform"], ["double"]),
        helper.make_node("Unsqueeze", ["double", "axis"], ["channel"]),
        helper.make_node("Conv", ["channel", "kernel"], ["convolved"], strides=[KERNEL]),
        helper.make_node("Transpose", ["convolved"], ["frames"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["frames", "matrix"], ["embeddings"]),
        helper.make_node("Identity", ["lengths"], ["frame_lengths"]),
    ]
    inputs = [
        helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["batch", "samples"]),
        helper.make_tensor_value_info("lengths", TensorProto.INT64, ["batch"]),
    ]
    outputs = [
        helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["batch", "frames", WIDTH]),
        helper.make_tensor_value_info("frame_lengths", TensorProto.INT64, ["batch"]),
    ]
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "small", inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.save(model, tmp_path / "small.onnx")
    return Graph(
        name="fp32",
        precision="fp32",
        runtime="onnxruntime",
        file="small.onnx",
        sha256={"small.onnx": "0" * 64},
        outputs=("embeddings",),
        layers=1,
        errors={"embeddings": 0.0},
    )


EMBEDDINGS = Output(name="embeddings", shape=("batch", "frames", WIDTH), lengths="frame_lengths")


def test_a_graph_whose_operations_are_known_by_hand(graph: Graph, tmp_path: Path) -> None:
    clip = np.zeros(SAMPLES, np.float32)
    assert operations.count(tmp_path, graph, EMBEDDINGS, clip) == {
        "convolutions": 2 * FRAMES * CHANNELS * KERNEL,
        "products": 2 * FRAMES * CHANNELS * WIDTH,
    }


@pytest.mark.parametrize(
    ("counted", "expected"),
    [
        (node("MatMul", (2, 7, 3), (3, 5), output=(2, 7, 5)), 2 * 2 * 7 * 3 * 5),
        (node("MatMul", (3,), (3, 5), output=(5,)), 2 * 3 * 5),
        (node("FusedMatMul", (2, 3, 7), (2, 3, 5), output=(2, 7, 5)), 2 * 2 * 7 * 3 * 5),  # the left one transposed
        (node("Gemm", (7, 3), (5, 3), (5,), output=(7, 5)), 2 * 7 * 3 * 5),
        (node("Conv", (2, 8, 20), (6, 4, 3), output=(2, 6, 18)), 2 * 2 * 6 * 18 * 4 * 3),  # in two groups
        (node("ConvTranspose", (2, 8, 20), (8, 3, 4), output=(2, 6, 80)), 2 * 2 * 8 * 20 * 3 * 4),
        (node("MultiHeadAttention", (2, 7, 16), (2, 9, 16), (2, 9, 8), output=(2, 7, 8)), 2 * 2 * 7 * 9 * (16 + 8)),
        (node("LayerNormalization", (2, 7, 3), (3,), (3,), output=(2, 7, 3)), 0),
    ],
)
def test_the_operations_of_one_node(counted: Node, expected: int) -> None:
    assert operations.of(counted) == expected


def test_what_nobody_can_count_is_not_counted_as_nothing() -> None:
    with pytest.raises(ValueError, match="Einsum"):
        operations.of(node("Einsum", (2, 3), (3, 4), output=(2, 4)))


def test_an_encoder_computes_what_its_configuration_says(cache: Path) -> None:
    """In closed form, for the frames that the graph has, which are those of a clip filled up to whole strides."""
    subject = models.prepare("tiny", None, (), cache, lambda step: None)
    graph = next(graph for graph in subject.manifest.graphs if graph.form == BASE)
    clip = models.clips(1, 0.5, subject.manifest.sample_rate, 0)[0]
    counted = operations.count(subject.folder, graph, subject.manifest.output("embeddings"), clip)
    config = recipes.RECIPES["tiny"].config()
    steps, channels, convolutions = clip.size, 1, 0
    for width, kernel, stride in zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True):
        steps //= stride
        convolutions += steps * width * channels * kernel
        channels = width
    hidden, groups = config.hidden_size, config.num_conv_pos_embedding_groups
    # An even kernel in the middle gives one frame more, which is dropped.
    convolutions += (steps + 1) * hidden * (hidden // groups) * config.num_conv_pos_embeddings
    layer = 4 * hidden**2 + 2 * hidden * config.intermediate_size
    # A mask is a component more of every key, in heads of a multiple of 8.
    mask = 8 * config.num_attention_heads
    assert counted == {
        "convolutions": 2 * convolutions,
        "products": 2 * steps * (channels * hidden + config.num_hidden_layers * layer),
        "attention": 2 * steps**2 * (hidden + mask + hidden) * config.num_hidden_layers,
    }


def test_a_profile_tells_run_by_run_what_each_node_took(graph: Graph, tmp_path: Path) -> None:
    clips = [np.zeros(SAMPLES, np.float32), np.zeros(2 * SAMPLES, np.float32)]
    with profiled(tmp_path, graph, threads=1, optimized=False) as found:
        for clip in clips:
            run_batch(found.session, [clip], [EMBEDDINGS])
        passes = found.passes()
    frames = [[each.outputs[0] for each in run.nodes if each.operator == "MatMul"] for run in passes]
    assert frames == [[(1, FRAMES, WIDTH)], [(1, 2 * FRAMES, WIDTH)]]
    for run in passes:
        assert 0 <= sum(each.seconds for each in run.nodes) <= run.seconds


def test_events_that_are_of_no_node_are_left_out() -> None:
    details = {"op_name": "Relu", "input_type_shape": [{"float": [2]}], "output_type_shape": [{"float": [2]}]}
    events = [
        {"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 5, "args": {}},
        {"cat": "Session", "name": "model_run", "ts": 10, "dur": 100, "args": {}},
        {"cat": "Node", "name": "relu_fence_before", "ts": 11, "dur": 1, "args": {"op_name": "Relu"}},
        {"cat": "Node", "name": "relu_kernel_time", "ts": 12, "dur": 30, "args": details},
    ]
    [run] = read(events)
    assert run.seconds == pytest.approx(100e-6)
    [found] = run.nodes
    assert (found.name, found.operator, found.inputs, found.outputs) == ("relu", "Relu", ((2,),), ((2,),))
    assert found.seconds == pytest.approx(30e-6)


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        *(("MatMulIntegerToFloat", "products"), ("DynamicQuantizeMatMul", "products"), ("Conv", "convolutions")),
        *(("DynamicQuantizeLinear", "quantization"), ("ReorderInput", "copies"), ("ReduceMean", "norms")),
        *(("BiasGelu", "activations"), ("Softmax", "attention"), ("LayerNormalization", "norms"), ("Loop", OTHER)),
    ],
)
def test_kinds_of_operators(operator: str, expected: str) -> None:
    assert kind(operator) == expected
