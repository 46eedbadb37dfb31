"""SECURITY.md speaks of tests that exist, and every threat has one."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEST_ID = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@pytest.fixture(scope="module")
def document():
    return (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def section(document, heading):
    return document.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]


def defined(path):
    return {node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}


def test_every_test_that_is_named_exists(document):
    missing = [
        f"{path}::{name}"
        for path, name in TEST_ID.findall(document)
        if not (ROOT / path).is_file() or name not in defined(ROOT / path)
    ]
    assert missing == []


def test_every_threat_names_its_test(document):
    _, _, *rows = (line for line in section(document, "Threats").splitlines() if line.startswith("|"))
    assert len(rows) > 20
    assert [row for row in rows if not TEST_ID.search(row.rsplit("|", 2)[1])] == []


def test_every_decision_that_is_named_exists(document):
    links = re.findall(r"\]\((docs/[^)]+)\)", document)
    assert links
    assert [link for link in links if not (ROOT / link).is_file()] == []
