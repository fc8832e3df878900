"""Transforms: the same function from other constants, so that less is lost when they are coded."""

from hearth.compiler.transform.rotate import rotate, rotation_notes
from hearth.compiler.transform.rotate_down import rotate_down
from hearth.compiler.transform.smooth_decoder import quieten_peaks, smooth_decoder

__all__ = ["quieten_peaks", "rotate", "rotate_down", "rotation_notes", "smooth_decoder"]
