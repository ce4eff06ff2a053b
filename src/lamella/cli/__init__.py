"""The command line: one file a verb; `app.py` joins them, `output.py` is the only place that prints."""

from lamella.cli.app import main

__all__ = ["main"]
