"""Quantisation: a scheme is a value, a method is a file."""

from hearth.compiler.quantize.apply import quantize
from hearth.compiler.quantize.schemes import Scheme, WeightScheme, make_scheme, weight_scheme
from hearth.compiler.quantize.static import Statics

__all__ = ["Scheme", "Statics", "WeightScheme", "make_scheme", "quantize", "weight_scheme"]
