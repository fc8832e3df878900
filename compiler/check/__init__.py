"""What a compile proves before the archive gets its name: golden vectors, and accuracy against the source."""
