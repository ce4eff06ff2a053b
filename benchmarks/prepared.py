"""What the measurements of `pipeline.py` need on disk, and the jobs that use it."""

from __future__ import annotations

import sys
from pathlib import Path

import models
from measure import Job, measure
from models import BenchModel


class Prepared:
    """The files that the measurements of one model need, made once, in a work folder."""

    def __init__(self, model: BenchModel, *, cache: Path, threads: int) -> None:
        self.model = model
        self.threads = threads
        self._folder = cache.parent / "bench-work" / model.name
        self._folder.mkdir(parents=True, exist_ok=True)
        self.inputs = self._folder / "inputs.npz"
        models.save_inputs(model.name, self.inputs)

    def slices(self, count: int, *, optimised: bool = False) -> Path:
        """A folder of slices."""
        folder = self._folder / f"slices-{count}{'-optimised' if optimised else ''}"
        settings = {"slices": count, "optimize_first": optimised, "directory": str(folder)}
        return self._made(folder, "lamella_slices", settings)

    def optimised(self) -> Path:
        """The whole model, optimised offline."""
        path = self._folder / "optimised.onnx"
        return self._made(path, "optimised_whole", {"optimised": str(path)})

    def _made(self, path: Path, function: str, settings: dict[str, object]) -> Path:
        if not path.exists():
            sample = measure(Job(path.name, "pipeline_jobs", function, {"model": str(self.model.path), **settings}))
            if "error" in sample:
                sys.exit(f"error: {self.model.name}: {path.name} cannot be made: {sample['error']}")
        return path

    def whole_job(self, label: str) -> Job:
        """The naive way: one session on the whole model."""
        arguments = {"model": str(self.model.path), "inputs": str(self.inputs), "threads": self.threads}
        return Job(label, "pipeline_jobs", "whole", arguments, reads=self.model.files)

    def pipeline_job(self, label: str, source: Path, *, low_memory: bool) -> Job:
        """A model or its slices through `lamella.Pipeline`."""
        arguments = {"source": str(source), "inputs": str(self.inputs), "threads": self.threads}
        reads = {*self.model.files, *(source.rglob("*") if source.is_dir() else ())}
        files = tuple(sorted(path for path in reads if path.is_file()))
        return Job(label, "pipeline_jobs", "pipeline", {**arguments, "low_memory": low_memory}, reads=files)
