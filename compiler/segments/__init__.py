"""General graphs: cut into as few ONNX segments as possible, with native islands where those pay."""
