"""Platforms as data: limits, prices and speeds, each with its unit, its source and the date it was read."""

from lamella.platforms.base import Architecture, Figure, Limits, Platform, Pricing, Speeds
from lamella.platforms.reading import load_platform, platform_names, platforms

__all__ = [
    "Architecture",
    "Figure",
    "Limits",
    "Platform",
    "Pricing",
    "Speeds",
    "load_platform",
    "platform_names",
    "platforms",
]
