"""What an engine is and what runs it: numpy, pydantic and a runtime; never torch, onnx or fastapi."""
