"""Lamella runs any ONNX model in slices, verified against the whole model, in bounded memory.

The public names are loaded on first use, so that `import lamella` costs milliseconds: no NumPy, no engine.

```python
import lamella

model = lamella.load("model.onnx")
sliced = lamella.slice(model, "model.slices", slices=4)
with lamella.Pipeline(sliced) as pipeline:
    outputs = pipeline.infer(inputs)
```
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lamella.checking.check import check
    from lamella.converters import convert
    from lamella.errors import LamellaError
    from lamella.gateway.serving.background import serve
    from lamella.graph import load
    from lamella.planner import plan
    from lamella.slicing import slice, verify
    from lamella.targets import Endpoint, deploy
    from lamella.targets.aws.exporting import export
    from lamella.targets.packages import package
    from lamella.workflow import Pipeline

__version__ = "0.1.0"

__all__ = [
    "Endpoint",
    "LamellaError",
    "Pipeline",
    "__version__",
    "check",
    "convert",
    "deploy",
    "export",
    "load",
    "package",
    "plan",
    "serve",
    "slice",
    "verify",
]

_HOMES = {
    "Endpoint": "lamella.targets",
    "LamellaError": "lamella.errors",
    "Pipeline": "lamella.workflow",
    "check": "lamella.checking.check",
    "convert": "lamella.converters",
    "deploy": "lamella.targets",
    "export": "lamella.targets.aws.exporting",
    "load": "lamella.graph",
    "package": "lamella.targets.packages",
    "plan": "lamella.planner",
    "serve": "lamella.gateway.serving.background",
    "slice": "lamella.slicing",
    "verify": "lamella.slicing",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
