import re
import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "docs/tutorials"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the documentation is not part of the source distribution")


def test_the_tutorial_on_feedback_prints_what_its_page_says(capsys):
    (output,) = re.findall(r"```text\n(.*?)```", (FOLDER / "feedback.md").read_text(encoding="utf-8"), re.DOTALL)

    runpy.run_path(str(FOLDER / "examples/feedback.py"), run_name="__main__")

    assert capsys.readouterr().out == output
