import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def tables(monkeypatch):
    if not (ROOT / "benchmarks").is_dir():
        pytest.skip("benchmarks are not part of the source distribution")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return pytest.importorskip("tables")


def test_the_tables_of_the_documents_say_what_the_results_say(tables):
    assert tables.stale() == [], "run `make docs-tables`"


def test_every_table_stands_in_a_document(tables):
    named = {found["name"] for path in tables.documents(ROOT) for found in tables.MARKED.finditer(path.read_text())}

    assert named == set(tables.TABLES)


def test_a_figure_that_was_changed_by_hand_is_noticed_and_mended(tables, tmp_path):
    shutil.copytree(ROOT / "benchmarks/results", tmp_path / "benchmarks/results")
    readme = tmp_path / "README.md"
    shutil.copy(ROOT / "README.md", readme)
    whole = readme.read_text(encoding="utf-8")
    figure = tables.MARKED.search(whole)[0].split()[-4]
    readme.write_text(whole.replace(figure, "99.9"), encoding="utf-8")

    assert tables.stale(tmp_path) == [readme]
    assert tables.filled(readme.read_text(encoding="utf-8"), tmp_path / "benchmarks/results") == whole


def test_the_readme_stays_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()

    assert len(lines) <= 100
    assert [line for line in lines if len(line) > 120] == []
