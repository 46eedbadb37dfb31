"""What the README and the example say is run."""

import re
import runpy
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1]
EXAMPLE = HOME / "examples" / "handbook_rag.py"
BLOCKS = re.findall(r"^```python\n(.*?)^```", (HOME / "README.md").read_text(encoding="utf-8"), re.M | re.S)


def test_the_readme_has_blocks_to_run():
    assert BLOCKS


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_blocks_of_the_readme_run_and_print_what_they_say(number, capsys):
    exec(compile(BLOCKS[number], f"README.md, block {number}", "exec"), {"__name__": "__main__"})
    said = [line.partition("# ")[2].removesuffix("...") for line in BLOCKS[number].splitlines() if "print(" in line]
    printed = capsys.readouterr().out.splitlines()
    assert [line[: len(start)] for line, start in zip(printed, said, strict=True)] == said


@pytest.mark.skipif(not EXAMPLE.exists(), reason="the example needs a checkout")
def test_the_example_runs(capsys):
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    assert printed.count("reranked:") == 2
    assert "Question: " in printed
