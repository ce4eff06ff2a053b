"""Measuring: what requests took and cost, in results files, tables and charts that anyone can make again from these."""

from lamella.bench.results import Results
from lamella.bench.results_file import read_results, write_results
from lamella.bench.summary import summarize

__all__ = ["Results", "read_results", "summarize", "write_results"]
