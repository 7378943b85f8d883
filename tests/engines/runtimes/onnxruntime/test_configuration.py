from __future__ import annotations

import onnxruntime

from engines.runtimes import RuntimeOptions
from engines.runtimes.onnxruntime.configuration import cuda_options, providers, session_options


def test_on_a_gpu_there_is_no_tf32_and_no_tuning_inside_a_request() -> None:
    found = cuda_options(RuntimeOptions(device_id=1), weights=100)
    assert found == {
        "device_id": "1",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
        "arena_extend_strategy": "kSameAsRequested",
    }
    assert cuda_options(RuntimeOptions(conv_search="default"), 100)["cudnn_conv_algo_search"] == "DEFAULT"


def test_a_limit_is_of_what_is_taken_beside_the_weights() -> None:
    assert cuda_options(RuntimeOptions(device_bytes=2**30), weights=2**20)["gpu_mem_limit"] == str(2**30 + 2**20)


def test_a_gpu_comes_before_the_cpu() -> None:
    options = RuntimeOptions()
    assert [name for name, _ in providers(options, 0, on_gpu=True)] == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert providers(options, 0, on_gpu=False) == [("CPUExecutionProvider", {})]


def test_weights_lie_outside_of_the_arena_of_a_gpu() -> None:
    key = "session.use_device_allocator_for_initializers"
    on_gpu = session_options(onnxruntime, RuntimeOptions(threads=3), on_gpu=True)
    assert on_gpu.get_session_config_entry(key) == "1"
    assert on_gpu.intra_op_num_threads == 3
    on_cpu = session_options(onnxruntime, RuntimeOptions(), on_gpu=False)
    assert on_cpu.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert not on_cpu.enable_cpu_mem_arena
