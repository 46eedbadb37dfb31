"""Former module names: for one release they are the modules of today, with a warning."""

import importlib
import subprocess
import sys

import pytest

import gliclass_rerank

FORMER = {
    "rac": "examples",
    "rac.encoders": "examples.encoders",
    "rac.foreign": "examples.foreign",
    "rac.source": "examples.source",
    "rac.store": "examples.store",
    "rerank": "reranker",
    "classify": "classifier",
    "training": "learn.training",
    "evaluation.collection": "learn.evaluation.collection",
    "evaluation_adapters": "learn.evaluation.adapters",
    "assemble": "learn.assemble",
    "runtimes.load": "text_models.load",
    "runtimes.options": "text_models.options",
    "mining.teach": "learn.data.teach",
    "mining.pool": "learn.data.passage_pool",
    "preparation.pool": "learn.data.example_pool",
    "preparation.pseudo_labels": "learn.data.pseudo_labels",
    "preparation.rac_data": "learn.data.rac_data",
    "preparation.statistics": "learn.data.statistics",
}


@pytest.fixture(autouse=True)
def never_imported(monkeypatch):
    roots = {f"gliclass_rerank.{former.partition('.')[0]}" for former in FORMER}
    for name in list(sys.modules):
        if ".".join(name.split(".")[:2]) in roots:
            monkeypatch.delitem(sys.modules, name)


def run_python(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize("former", FORMER)
def test_a_former_name_is_the_module_of_today(former):
    name, now = f"gliclass_rerank.{former}", importlib.import_module(f"gliclass_rerank.{FORMER[former]}")
    with pytest.warns(DeprecationWarning, match="the former name goes with the next release") as warned:
        module = importlib.import_module(name)

    assert str(warned[-1].message).startswith(f"`{name}` is `{now.__name__}` now")
    if hasattr(now, "__path__"):
        assert all(getattr(module, public) is getattr(now, public) for public in now.__all__)
    else:
        assert module is now


def test_the_warning_names_the_line_that_imports():
    with pytest.warns(DeprecationWarning, match="the former name goes with the next release") as warned:
        from gliclass_rerank.rac.source import ExampleSource
    assert {warning.filename for warning in warned} == {__file__}
    assert ExampleSource is gliclass_rerank.examples.ExampleSource


def test_packages_that_became_one_keep_their_modules_apart():
    with pytest.warns(DeprecationWarning, match="the former name goes with the next release"):
        from gliclass_rerank.mining import pool as passages
    with pytest.warns(DeprecationWarning, match="the former name goes with the next release"):
        from gliclass_rerank.preparation import pool as examples
    assert [passages.__name__, examples.__name__] == [
        "gliclass_rerank.learn.data.passage_pool",
        "gliclass_rerank.learn.data.example_pool",
    ]


def test_what_never_was_a_module_is_not_found():
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'gliclass_rerank\.reranking'"):
        importlib.import_module("gliclass_rerank.reranking")
    with (
        pytest.warns(DeprecationWarning, match="the former name goes with the next release"),
        pytest.raises(ModuleNotFoundError, match=r"'gliclass_rerank\.rac\.sources'"),
    ):
        importlib.import_module("gliclass_rerank.rac.sources")


def test_importing_the_package_imports_and_warns_of_nothing():
    code = "import sys, gliclass_rerank; assert not {'gliclass_rerank.examples', 'torch'} & set(sys.modules)"
    done = run_python("-W", "error", "-c", code)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_former_name_runs_as_a_program_and_says_so():
    done = run_python("-m", "gliclass_rerank.assemble", "--help")

    assert done.returncode == 0, done.stderr
    assert "Assemble a checkpoint from a BERT." in done.stdout
    assert "`gliclass_rerank.assemble` is `gliclass_rerank.learn.assemble` now" in done.stderr
