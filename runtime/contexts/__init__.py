"""What was read, kept: snapshots, saved contexts, the prefix cache, conversations."""
