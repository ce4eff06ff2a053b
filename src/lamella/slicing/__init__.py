"""Slice files, and the proof that they give the whole model's answer."""

from lamella.slicing.slice import Sliced, slice
from lamella.slicing.verify import Verification, verify

__all__ = ["Sliced", "Verification", "slice", "verify"]
