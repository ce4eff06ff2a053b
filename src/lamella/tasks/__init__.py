"""Tasks: from images and texts to a model's inputs, and from its outputs to an answer."""

from lamella.tasks.answering import answer
from lamella.tasks.opening import TASKS, TaskChoice, open_task

__all__ = ["TASKS", "TaskChoice", "answer", "open_task"]
