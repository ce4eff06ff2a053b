"""What the scripts share that hold a server against other people's clients. Runs where only those are installed.

A script has functions `check_...`. Called with a server's address, it runs all of them and prints what came of each as
JSON; `oip_clients.py` does so for tests. The server has three models: `identity` (`tests.models.identities`), `texts`
(the same with `text=True`) and `mlp` (`tests.models.mlp` of width 4).
"""

import json
import traceback
from collections.abc import Callable, Mapping

import ml_dtypes
import numpy as np

Arrays = dict[str, np.ndarray]


def run(checks: Mapping[str, object], *arguments: object) -> None:
    """Run every `check_...` among `checks`, each with `arguments`, and print the traceback of each that fails."""
    found = {name: check for name, check in checks.items() if name.startswith("check_")}
    print(json.dumps({name: _outcome(check, arguments) for name, check in found.items()}))  # noqa: T201


def _outcome(check: Callable[..., None], arguments: tuple[object, ...]) -> str:
    try:
        check(*arguments)
    except Exception:  # noqa: BLE001  # the test shows it
        return traceback.format_exc()
    return ""


def texts() -> np.ndarray:
    """Two rows of three texts."""
    return np.array([["", "Lamella", "größer"], ["量", "a\0b", "😀"]], object)


def samples() -> Arrays:
    """For each datatype of numbers, two rows of three values, among them the extremes, by datatype."""
    found = {
        "BOOL": np.array([[True, False, True], [False, False, True]]),
        "FP16": np.array([[0.5, -65504, np.inf], [2**-24, -0.0, 3]], np.float16),
        "FP32": np.array([[0.1, -np.inf, np.inf], [1e-45, -0.0, 3.4e38]], np.float32),
        "FP64": np.array([[0.1, -np.inf, np.inf], [5e-324, -0.0, 1.7e308]], np.float64),
        "BF16": np.array([[0.5, -1, 3e38], [1e-38, 0, 2]], ml_dtypes.bfloat16),
    }
    for kind in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        limits = np.iinfo(kind)
        found[kind.upper()] = np.array([[limits.min, limits.max, 0], [1, 2, 3]], kind)
    return found


def assert_same(got: np.ndarray, expected: np.ndarray) -> None:
    """To the last bit; texts may come as bytes."""
    assert got is not None
    assert got.shape == expected.shape
    if expected.dtype == object:
        assert [t if isinstance(t, bytes) else t.encode() for t in got.ravel()] == [
            t.encode() for t in expected.ravel()
        ]
    else:
        assert got.dtype == expected.dtype
        assert got.tobytes() == expected.tobytes()
