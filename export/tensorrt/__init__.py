"""An engine's fp16 or bf16 graph -> TensorRT plans; and which graphs TensorRT's parser takes.

`build` and what it needs run on the GPU host: they import neither torch nor transformers nor onnx. `operators` belongs
to the export.
"""
