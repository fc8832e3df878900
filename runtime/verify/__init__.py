"""Proof that an archive is what its compiler made, and that this machine computes what it promises."""
