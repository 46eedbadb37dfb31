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


@pytest.mark.slow
def test_the_tutorial_on_learning_ends_with_a_better_model(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["learning.py", str(tmp_path)])

    runpy.run_path(str(FOLDER / "examples/learning.py"), run_name="__main__")

    *_, verdict, shown = capsys.readouterr().out.splitlines()
    before, after = re.findall(r"(\d+)%", shown)
    assert verdict == "accepted"
    assert int(before) < int(after)
    assert (tmp_path / "feedback.db").is_file()
