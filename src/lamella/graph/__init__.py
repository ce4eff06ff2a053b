"""Reading ONNX with the weights left on disk."""

from lamella.graph.model import Model
from lamella.graph.reader import load

__all__ = ["Model", "load"]
