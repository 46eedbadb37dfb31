"""The main call stays short: how many functions and files of ours a warm ranking passes, and how long functions are."""

import ast
import statistics
import sys
from pathlib import Path

import pytest

import gliclass_rerank
from gliclass_rerank import Reranker

PACKAGE = Path(gliclass_rerank.__file__).parent
QUERY = "how do plants feed themselves?"
# Longer than rows of a few tokens, which on a CPU have an attention of their own.
PASSAGES = [
    f"passage {number} about green leaves that turn light of the sun into sugar every day" + " and so on" * (number % 4)
    for number in range(20)
]


def passed(reranker: Reranker) -> set[tuple[str, int]]:
    """File and line of each function that a ranking calls; comprehensions belong to the function around them."""
    found = set()

    def note(frame, event, _):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(PACKAGE)) and not code.co_name.startswith("<"):
            found.add((code.co_filename, code.co_firstlineno))

    reranker.rank(QUERY, PASSAGES)
    sys.setprofile(note)
    try:
        reranker.rank(QUERY, PASSAGES)
    finally:
        sys.setprofile(None)
    return found


def functions() -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py"))
    return [
        node for tree in trees for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of code, the docstring not counted."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize(("model", "num_functions", "num_files"), [(None, 45, 17), ("minilm-l6-v1", 39, 16)])
def test_a_warm_ranking_passes_few_functions(model, num_functions, num_files):
    found = passed(Reranker(model, backend="torch"))

    assert len(found) <= num_functions
    assert len({file for file, _ in found}) <= num_files


def test_functions_are_short():
    lines = sorted(map(body_lines, functions()))

    assert statistics.median(lines) <= 10
    assert lines[int(0.95 * len(lines))] <= 35


def test_modules_are_short():
    lines = sorted(len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py"))

    assert statistics.median(lines) <= 120
    assert lines[-1] <= 400
    assert len(list(PACKAGE.glob("*.py"))) <= 14
