"""Which task a pipeline has, with the files that lie beside its model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lamella.tasks.base import Task
from lamella.tasks.files import folder_of
from lamella.tasks.opening import TaskChoice, open_task
from lamella.tensors import TensorSpec


def task_for(
    wanted: str | TaskChoice, source: object, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> Task:
    """The task that is wanted of a model.

    Args:
        wanted: Its name, or what is said of it.
        source: What the pipeline was made of; its path says where the model's files lie, unless the choice does.
        inputs: The model's inputs.
        outputs: Its outputs.

    Raises:
        UsageError: There is no such task, folder or setting.
        TaskError: The model does not suit the task, or a file is missing.
    """
    choice = TaskChoice(wanted) if isinstance(wanted, str) else wanted
    folder = choice.folder
    if folder is None:
        # A file; what knows its slices directory; a model, which knows its file.
        path = next((p for name in ("directory", "path") if isinstance(p := getattr(source, name, None), Path)), None)
        path = Path(source) if isinstance(source, (str, Path)) else path
        folder = None if path is None else folder_of(path)
    return open_task(choice.name, inputs, outputs, folder=folder, settings=choice.settings)
