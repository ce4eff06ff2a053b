"""Slice files, and the proof that they give the whole model's answer."""

from lamella.slicing.verification import Verification, verify
from lamella.slicing.write import Sliced, slice

__all__ = ["Sliced", "Verification", "slice", "verify"]
