"""What is imported and what is shipped."""

import ast
import subprocess
import sys
from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path

import haystack_integrations.components.rankers.gliclass as package

import gliclass_rerank
import gliclass_rerank.adapters
import gliclass_rerank.examples

LEAF = Path(package.__file__).parent
# All that an adapter may use.
MODULES = (gliclass_rerank, gliclass_rerank.adapters, gliclass_rerank.examples)
PUBLIC = {module.__name__: {*module.__all__} for module in MODULES}


def test_only_public_names_of_the_core_are_used():
    files = list(LEAF.rglob("*.py"))
    assert files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [
                alias.name for alias in getattr(node, "names", ()) if isinstance(node, (ast.Import, ast.ImportFrom))
            ]
            if isinstance(node, ast.Import):
                assert not [name for name in names if name.split(".")[0] == "gliclass_rerank"], file
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gliclass_rerank":
                assert node.module in PUBLIC, file
                assert set(names) <= PUBLIC[node.module], file


def test_the_namespaces_above_the_package_are_shared_with_other_distributions():
    parts = package.__name__.split(".")
    for depth in range(1, len(parts)):
        assert import_module(".".join(parts[:depth])).__file__ is None
    assert (LEAF / "py.typed").exists()
    # An editable installation lists no sources.
    shipped = [file for file in distribution("gliclass-haystack").files if file.parts[0] == parts[0]]
    assert {file.parent.as_posix() for file in shipped if file.suffix != ".pyc"} <= {"/".join(parts)}


def test_the_package_exports_the_ranker_and_the_source_of_examples():
    assert package.__all__ == ["GLiClassContextPruner", "GLiClassRanker", "HaystackExampleSource", "to_document"]
    assert package.GLiClassRanker.__module__ == f"{package.__name__}.ranker"


def test_the_constructor_imports_no_model_code():
    # Haystack itself imports torch.
    code = (
        "import sys; from haystack_integrations.components.rankers.gliclass import GLiClassRanker; GLiClassRanker();"
        "assert not {'gliclass_rerank.reranker', 'gliclass_rerank.model', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
