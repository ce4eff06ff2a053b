"""A model in memory as a file, for engines that find external data beside files only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from lamella.errors import EngineError


@contextmanager
def placed(model: bytes, folder: Path) -> Iterator[str]:
    """The path of a file in `folder` that holds the model as long as the context does.

    Raises:
        EngineError: Nothing can be written there.
    """
    try:
        file = NamedTemporaryFile(dir=folder, suffix=".onnx")  # noqa: SIM115 - what follows may fail otherwise
        file.write(model)
        file.flush()
    except OSError as error:
        what = f"the model cannot be put beside its weights in `{folder}`"
        raise EngineError(f"{what}: {error.strerror}", hint="give it as a file there") from error
    with file:
        yield file.name
