"""Benchmarks and the recipe's scripts are run seldom; what they import of ours must be there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="a source distribution has no benchmarks")

SCRIPTS = sorted((*ROOT.glob("benchmarks/*.py"), *ROOT.glob("docs/recipe/*.py")))


def imported_names(script: Path) -> Iterator[tuple[str, str]]:
    """Module and name of every `from gliclass_rerank... import ...`, those inside functions too."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "gliclass_rerank":
            for alias in node.names:
                yield str(node.module), alias.name


def test_there_are_scripts():
    assert len(SCRIPTS) > 20
    assert any(name for script in SCRIPTS for name in imported_names(script))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_what_a_script_imports_exists(script):
    for module, name in imported_names(script):
        found = import_module(module)
        is_module = hasattr(found, "__path__") and find_spec(f"{module}.{name}") is not None
        assert hasattr(found, name) or is_module, f"{script.name} imports {name} from {module}"
