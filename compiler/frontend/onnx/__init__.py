"""ONNX graphs in: read and checked, raised to the IR where rules know them, kept as segments where not."""
