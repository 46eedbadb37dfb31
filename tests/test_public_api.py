"""The surface: what can be imported, what importing costs, and that the documents say what the code does."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import gliclass_rerank

ROOT = Path(__file__).parent.parent
HUB_CLIENT = "huggingface_hub.file_download"
HEAVY = (
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "huggingface_hub",
    HUB_CLIENT,
    "safetensors",
    "typer",
    "ir_measures",
    "fastapi",
)


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300).stdout


def loaded_after(statement):
    return run_python(f"import sys; {statement}; print([name for name in {HEAVY} if name in sys.modules])").strip()


def test_public_names_are_sorted_unique_and_importable():
    names = gliclass_rerank.__all__

    assert names == sorted(set(names))
    assert all(getattr(gliclass_rerank, name) is not None for name in names)
    assert dir(gliclass_rerank) == names


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'gliclass_rerank' has no attribute 'Nonsense'"):
        _ = gliclass_rerank.Nonsense


def test_every_exception_has_the_common_base_and_a_builtin_one():
    errors = [
        value
        for value in (getattr(gliclass_rerank, name) for name in gliclass_rerank.__all__)
        if isinstance(value, type) and issubclass(value, Exception)
    ]

    assert all(issubclass(error, gliclass_rerank.GLiClassRerankError) for error in errors)
    assert issubclass(gliclass_rerank.InputError, ValueError)
    assert issubclass(gliclass_rerank.ConfigError, ValueError)
    assert issubclass(gliclass_rerank.BackendError, RuntimeError)
    assert issubclass(gliclass_rerank.MissingDependencyError, ImportError)


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_after("import gliclass_rerank") == "[]"


def test_importing_the_stage_loads_nothing_heavy():
    assert loaded_after("import gliclass_rerank.stage") == "[]"


def test_ranking_with_the_bundled_model_imports_no_transformers_and_no_client_of_the_hub():
    """The first would take longer than torch does, the second a fifth of that."""
    loading = "from gliclass_rerank import Reranker; reranker = Reranker(device='cpu', backend='torch')"
    ranking = f"{loading}; reranker.rank('chain', ['oil it', 'a tyre'])"

    loaded = loaded_after(ranking)
    assert "'transformers'" not in loaded
    assert f"'{HUB_CLIENT}'" not in loaded


def test_importing_values_and_errors_loads_nothing_heavy():
    assert loaded_after("from gliclass_rerank import Example, Hit, InputError, Ranking") == "[]"


def test_the_package_declares_its_types():
    assert (Path(gliclass_rerank.__file__).parent / "py.typed").is_file()


def test_the_readme_runs_and_prints_what_it_says(capsys, monkeypatch, tmp_path):
    readme = ROOT / "README.md"
    if not readme.is_file():
        pytest.skip("README.md is not there yet")
    blocks = re.findall(
        r"^```python\n(.*?)^```\n(?:\n```\n(.*?)^```)?",
        readme.read_text(encoding="utf-8"),
        flags=re.MULTILINE | re.DOTALL,
    )
    assert blocks, "README.md shows no Python"
    monkeypatch.chdir(tmp_path)  # it makes a store
    namespace = {"__name__": "readme"}

    for number, (block, output) in enumerate(blocks, start=1):
        exec(compile(block, f"README.md, python block {number}", "exec"), namespace)
        assert list(map(number_or_word, capsys.readouterr().out.split())) == list(map(number_or_word, output.split()))


def number_or_word(text):
    # Logits of order 10, with three decimals; other machines and other versions of torch round differently.
    return pytest.approx(float(text), abs=0.01) if re.fullmatch(r"-?\d+\.\d+", text) else text


def test_the_newest_entry_of_the_changelog_is_this_version():
    changelog = ROOT / "CHANGELOG.md"
    if not changelog.is_file():
        pytest.skip("CHANGELOG.md is not there yet")

    entries = re.findall(r"^## \[?([^\]\s]+)", changelog.read_text(encoding="utf-8"), flags=re.MULTILINE)

    released = [entry for entry in entries if entry.lower() != "unreleased"]
    assert released[0] == gliclass_rerank.__version__


def test_a_test_that_reaches_for_the_network_fails():
    with socket.socket() as connection, pytest.raises(RuntimeError, match="a test reached for the network"):
        connection.connect(("192.0.2.1", 80))


def test_the_default_model_loads_and_ranks_without_the_network():
    ranking = gliclass_rerank.Reranker(device="cpu").rank("worn chain", ["oil the chain", "pump the tyre"])

    assert [hit.index for hit in ranking] == [0, 1]
