"""Coverage-guided fuzzing of what reads foreign files; what it found is kept and replayed by the tests."""
