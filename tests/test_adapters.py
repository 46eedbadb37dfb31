"""What the three adapters' sources must keep to; what they do is tested in their own environment."""

import ast
import re
from pathlib import Path

import pytest

import gliclass_rerank
import gliclass_rerank.adapters
import gliclass_rerank.examples

INTEGRATIONS = Path(__file__).parents[1] / "integrations"
DISTRIBUTIONS = sorted(path for path in INTEGRATIONS.iterdir() if path.is_dir())
LEAVES = {
    "gliclass-haystack": "src/haystack_integrations/components/rankers/gliclass",
    "langchain-gliclass": "langchain_gliclass",
    "llama-index-postprocessor-gliclass-rerank": "llama_index/postprocessor/gliclass_rerank",
}

# All that an adapter may use.
MODULES = (gliclass_rerank, gliclass_rerank.adapters, gliclass_rerank.examples)
PUBLIC = {module.__name__: {*module.__all__} for module in MODULES}

by_distribution = pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda path: path.name)


def test_integrations_holds_distributions_and_nothing_else():
    assert [path.name for path in sorted(INTEGRATIONS.iterdir())] == sorted(LEAVES)
    assert all((path / "pyproject.toml").is_file() for path in DISTRIBUTIONS)


@by_distribution
def test_only_public_names_of_the_core_are_used(distribution):
    for module in (distribution / LEAVES[distribution.name]).rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gliclass_rerank":
                assert node.module in PUBLIC, f"{module} reaches into {node.module}"
                assert {name.name for name in node.names} <= PUBLIC[node.module]
            if isinstance(node, ast.Import):
                assert not [name for name in node.names if name.name.startswith("gliclass_rerank")]


@by_distribution
def test_namespaces_stay_open_above_the_package(distribution):
    leaf = distribution / LEAVES[distribution.name]
    assert (leaf / "__init__.py").is_file()
    assert (leaf / "py.typed").is_file()
    for folder in leaf.parents:
        if folder == distribution:
            break
        assert not [path for path in folder.iterdir() if path.suffix == ".py" or path.name == "py.typed"]


@by_distribution
def test_the_minor_version_is_the_cores(distribution):
    text = (distribution / "pyproject.toml").read_text(encoding="utf-8")
    major, minor, _ = gliclass_rerank.__version__.split(".")

    assert re.search(rf'^version = "{major}\.{minor}\.\d+"$', text, re.MULTILINE)
    assert f'"gliclass-rerank>={major}.{minor},<{major}.{int(minor) + 1}"' in text


@by_distribution
def test_the_licence_travels_with_each_wheel(distribution):
    root = INTEGRATIONS.parent
    assert (distribution / "LICENSE").read_bytes() == (root / "LICENSE").read_bytes()
