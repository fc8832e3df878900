"""General graphs: named arrays in and out, each part in the engine that its plan says."""
