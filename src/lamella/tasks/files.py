"""What lies beside a model and says how it wants its inputs: as Hugging Face and sentence-transformers lay it out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lamella.errors import TaskError
from lamella.json_files import FILE_LIMIT_BYTES, read_object, read_objects

KNOWN_FILES = (
    "config.json",
    "labels.txt",
    "modules.json",
    "preprocessor_config.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of a folder; without a folder there are none.

    Attributes:
        folder: Where they lie.
    """

    folder: Path | None = None

    def find(self, name: str) -> Path | None:
        """The path of a file, if it is there."""
        file = None if self.folder is None else self.folder / name
        return file if file is not None and file.is_file() else None

    def read(self, name: str) -> dict[str, object]:
        """What a JSON file holds; nothing where there is none.

        Raises:
            MalformedModelError: It is no JSON object.
        """
        file = self.find(name)
        return {} if file is None else read_object(file)

    def read_list(self, name: str) -> list[dict[str, object]]:
        """What a JSON file with a list of objects holds; nothing where there is none.

        Raises:
            MalformedModelError: It is no such list.
        """
        file = self.find(name)
        return [] if file is None else read_objects(file)

    def resolve(self, path: str) -> Path:
        """A path as a setting says it: relative ones start in the folder if they are there."""
        if self.folder is not None and (self.folder / path).is_file():
            return self.folder / path
        return Path(path)


def read_text(path: Path, what: str) -> str:
    """The text of a file.

    Raises:
        TaskError: It cannot be read, is larger than 8 MiB, or is not UTF-8.
    """
    try:
        if path.stat().st_size > FILE_LIMIT_BYTES:
            raise TaskError(f"{what} `{path}` is larger than {FILE_LIMIT_BYTES:,} bytes", hint="give the right file")
        return path.read_text("utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise TaskError(f"{what} `{path}` cannot be read: {reason}", hint="check the path") from error
    except UnicodeDecodeError as error:
        raise TaskError(f"{what} `{path}` is not UTF-8", hint="save it as UTF-8") from error


def folder_of(source: Path) -> Path:
    """Where the files of a model lie that runs from `source`: beside it.

    The folder `onnx` is looked through to the one that holds it, as Hugging Face's exporters lay models out, and so is
    a slices directory, which holds none of these files itself.
    """
    folder = source if source.is_dir() else source.absolute().parent
    looked_through = source.is_dir() or folder.name == "onnx" or source.name == "slices.json"
    if looked_through and not any((folder / name).is_file() for name in KNOWN_FILES):
        return folder.absolute().parent
    return folder
