"""What the README and the example show is true: both are run."""

import re
import runpy
from pathlib import Path

import pytest

_FOLDER = Path(__file__).resolve().parents[1]
_BLOCKS = re.findall(r"```python\n(.*?)```", (_FOLDER / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_readme_has_code():
    assert _BLOCKS


@pytest.mark.parametrize("code", _BLOCKS)
def test_a_block_of_the_readme_runs_on_its_own(code):
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


def test_the_example_runs(capsys):
    example, handbook = _FOLDER / "examples" / "handbook_rag.py", _FOLDER.parents[1] / "docs" / "demo" / "handbook.txt"
    if not (example.exists() and handbook.exists()):
        pytest.skip("the handbook is in a checkout only")
    runpy.run_path(str(example), run_name="__main__")
    printed = capsys.readouterr().out
    assert printed.count("GLiClass\n") == 2
    assert "Numb fingers after an hour" in printed.rpartition("The last prompt")[2]
