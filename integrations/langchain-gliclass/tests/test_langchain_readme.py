"""What the documents show runs."""

import re
import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent
EXAMPLE = FOLDER / "examples" / "handbook_rag.py"
BLOCKS = re.findall(r"^```python\n(.*?)^```", (FOLDER / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)


def test_the_readme_has_code():
    assert BLOCKS


@pytest.mark.parametrize("block", BLOCKS)
def test_the_readmes_code_runs(block):
    exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})


@pytest.mark.skipif(not EXAMPLE.exists(), reason="the example needs a checkout")
def test_the_example_runs_and_reranking_changes_the_order(capsys):
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    assert printed.count("BM25 alone") == printed.count("reranked") == printed.count("answer:") == 2
