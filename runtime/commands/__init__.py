"""The runtime's commands, one file each; runtime/cli.py finds them by entry point."""
