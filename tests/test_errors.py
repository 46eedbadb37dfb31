import sys
import threading

import pytest

from gliclass_rerank import MissingDependencyError, _imports
from gliclass_rerank._imports import require
from gliclass_rerank.errors import cause, listed, shown


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


def test_long_names_in_a_list_are_cut():
    assert len(listed(["x" * 1000])) == 82


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("short", "'short'"),
        (-3.5, "-3.5"),
        ([1, "two", None], "[1, 'two', None]"),
        ({"b": 1, "a": (2,)}, "{'a': (2,), 'b': 1}"),
        ("a" * 100, f"'{'a' * 38}…{'a' * 39}'"),
        (10**5000, "a number of 16610 bits"),
        (list(range(10**6)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, …17, 18, 19, 20, 21, 22, 23, 24, 25, ...]"),
    ],
    ids=lambda value: str(type(value).__name__),
)
def test_a_value_is_shown_in_80_characters(value, expected):
    assert shown(value) == expected


class _Rude:
    def __init__(self, written):
        self.written = written

    def __repr__(self):
        if isinstance(self.written, BaseException):
            raise self.written
        return self.written


@pytest.mark.parametrize(
    "value",
    [_Rude(RuntimeError("no")), _Rude("x" * 10**7), _Rude("a\nb\ud800"), _Rude(None), "\ud800\n" * 500, [10**5000]],
    ids=range(6),
)
def test_no_value_makes_showing_it_fail(value):
    text = shown(value)

    assert len(text) <= 80
    assert "\n" not in text
    assert text.encode()


def test_a_value_that_holds_itself_is_shown():
    value: list = []
    value.append(value)

    assert shown(value) == "[[[[...]]]]"


def test_the_cause_of_an_error_is_its_first_line_in_80_characters():
    assert cause(OSError("no route\nto host")) == "no route"
    assert cause(ValueError()) == "ValueError"
    assert len(cause(ValueError("x" * 200))) == 80


def test_a_package_is_hidden_while_other_threads_import():
    interval, stop = sys.getswitchinterval(), threading.Event()

    def imports():
        while not stop.is_set():
            sys.modules["passing_by"] = sys
            del sys.modules["passing_by"]

    other = threading.Thread(target=imports)
    sys.setswitchinterval(1e-6)
    other.start()
    try:
        for _ in range(50):
            with _imports._hidden("openvino_telemetry"), pytest.raises(ModuleNotFoundError):
                import openvino_telemetry  # noqa: F401
    finally:
        stop.set()
        other.join()
        sys.setswitchinterval(interval)
