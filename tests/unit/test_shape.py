"""The shape of the source, which no linter checks: small files, short functions."""

import ast
from pathlib import Path

import pytest

import lamella

SOURCE = Path(lamella.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
MOST_LINES_OF_A_FILE = 500
MOST_LINES_OF_A_FUNCTION = 60


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    first = function.body[1] if ast.get_docstring(function) and len(function.body) > 1 else function.body[0]
    return (function.body[-1].end_lineno or 0) - first.lineno + 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_and_functions_are_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MOST_LINES_OF_A_FILE
    functions = [f for f in ast.walk(ast.parse(text)) if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [f.name for f in functions if body_lines(f) > MOST_LINES_OF_A_FUNCTION] == []
