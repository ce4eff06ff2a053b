"""From a trained model, as its framework saved it, to an ONNX file with the same answers.

```python
from lamella.converters import convert

converted = convert("all-MiniLM-L6-v2/", "minilm.onnx")
print(converted.max_abs_diff)
```
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import cast

from lamella.converters.base import Converted, Converter
from lamella.errors import ConversionError, UsageError

__all__ = ["Converted", "Converter", "convert"]

_MEMBERS = ("lamella.converters.bert",)


def convert(source: str | Path, output: str | Path, *, opset: int | None = None, verify: bool = True) -> Converted:
    """Convert a trained model to ONNX.

    The weights are never loaded: the ONNX file refers to the bytes that the source's own files hold.

    Args:
        source: A Hugging Face folder (`config.json` and `model.safetensors`) of a BERT-family encoder.
        output: The `.onnx` file to write; replaced if it exists. Its folder is made if needed.
        opset: Version of the default operator set; None for the one that most runtimes take.
        verify: Compare the answers with the source's arithmetic before `output` appears. Reads the weights once,
            through a memory map.

    Raises:
        UsageError: `output` or `opset` makes no sense.
        ConversionError: The source cannot be converted.
        MalformedModelError: A file of the source is damaged.
        VerificationError: The answers differ; nothing is left behind.
    """
    output = Path(output)
    if output.suffix != ".onnx":
        raise UsageError(f"the output `{output}` is no `.onnx` file", hint="end its name in `.onnx`")
    if output.is_dir():
        raise UsageError(f"the output `{output}` is a folder", hint="give the name of a file inside it")
    members = [cast("Converter", import_module(name).CONVERTER) for name in _MEMBERS]
    for member in members:
        if member.accepts(str(source)):
            return member.convert(str(source), output, opset=opset, verify=verify)
    missing = "is nothing that Lamella converts" if Path(source).exists() else "does not exist"
    raise ConversionError(f"`{source}` {missing}", hint=f"give {' or '.join(member.describes for member in members)}")
