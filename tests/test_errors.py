import pytest

from gliclass_rerank import MissingDependencyError
from gliclass_rerank._optional import require
from gliclass_rerank.errors import listed


def test_a_missing_package_is_named_with_the_line_that_installs_it():
    with pytest.raises(MissingDependencyError) as caught:
        require("no_such_package", extra="eval")

    assert str(caught.value) == (
        "the package `no_such_package` is needed here and is not installed; run: pip install 'gliclass-rerank[eval]'"
    )
    assert (caught.value.package, caught.value.extra) == ("no_such_package", "eval")


def test_a_package_that_is_there_is_imported():
    assert require("json", extra="eval").loads("7") == 7


def test_a_package_that_fails_for_a_reason_of_its_own_keeps_its_error(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import something_it_needs")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ModuleNotFoundError, match="something_it_needs") as caught:
        require("broken_package", extra="eval")

    assert not isinstance(caught.value, MissingDependencyError)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], ""),
        (["b", "a"], "`a`, `b`"),
        (list("gfedcba"), "`a`, `b`, `c`, `d`, `e` and 2 more"),
    ],
)
def test_names_are_listed_sorted_and_cut_after_five(names, expected):
    assert listed(names) == expected
