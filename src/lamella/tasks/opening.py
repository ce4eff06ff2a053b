"""From a task's name to the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

from lamella.errors import UsageError
from lamella.tasks.base import Task
from lamella.tasks.files import ModelFiles
from lamella.tensors import TensorSpec

TASKS: Mapping[str, str] = {
    "custom": "Custom",
    "feature-extraction": "FeatureExtraction",
    "image-classification": "ImageClassification",
    "object-detection": "ObjectDetection",
    "question-answering": "QuestionAnswering",
}
"""The tasks, with their classes; the module of each is named like it."""


@dataclass(frozen=True, slots=True)
class TaskChoice:
    """A task, and what is said of it.

    Attributes:
        name: One of `TASKS`.
        folder: Where the model's tokeniser, labels and configuration lie; by default beside the model.
        settings: What differs from these files and the defaults.
    """

    name: str
    folder: str | Path | None = None
    settings: Mapping[str, object] = field(default_factory=dict)


def open_task(
    name: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    folder: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
) -> Task:
    """A task for a model. Imports that one task, and reads the files it needs.

    Example:
        ```python
        task = open_task("feature-extraction", pipeline.inputs, pipeline.outputs, folder="all-MiniLM-L6-v2")
        answers = answer(task, pipeline.infer, ["A sentence.", "Another one."])
        ```

    Args:
        name: One of `TASKS`.
        inputs: The model's inputs.
        outputs: The model's outputs.
        folder: Where the model's tokeniser, labels and configuration lie, as Hugging Face and sentence-transformers lay
            them out; None for none.
        settings: Options of the task that differ from those.

    Raises:
        UsageError: There is no such task, folder or setting.
        TaskError: The model does not suit the task, or a file is missing.
        MalformedModelError: A file is damaged.
        MissingDependencyError: A library is not installed.
    """
    check_task(name)
    if folder is not None and not Path(folder).is_dir():
        raise UsageError(f"`{folder}` is no folder", hint="give the folder with the model's tokeniser or labels")
    module = import_module(f"lamella.tasks.{name.replace('-', '_')}")
    beside = ModelFiles(None if folder is None else Path(folder))
    task: Task = getattr(module, TASKS[name])(inputs, outputs, beside, settings or {})
    return task


def check_task(name: str) -> str:
    """The name, if there is such a task.

    Raises:
        UsageError: There is none.
    """
    if name not in TASKS:
        close = get_close_matches(name, TASKS, 1)
        listed = ", ".join(f"`{one}`" for one in TASKS)
        raise UsageError(
            f"there is no task `{name}`", hint=f"did you mean `{close[0]}`?" if close else f"the tasks are {listed}"
        )
    return name
