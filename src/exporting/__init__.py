"""A run's networks as files that need neither this project nor, for ONNX, torch."""
