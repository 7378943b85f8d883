"""Checkpoint -> engine: needs torch, transformers and onnx; nothing that serves imports it."""
