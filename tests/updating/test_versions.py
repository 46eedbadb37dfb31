"""Versions of a model side by side."""

import json
import shutil

import pytest

from gliclass_rerank import CheckpointError, InputError, Reranker
from gliclass_rerank.checkpoint.location import locate
from gliclass_rerank.cli import main
from gliclass_rerank.learn import rollback, versions
from gliclass_rerank.learn.updating.versions import NOTES, add_version, prune, set_current


@pytest.fixture
def model(tmp_path, tiny_folders):
    """Versions 0001 to 0003; the third was learned from the first."""
    folder = tmp_path / "model"
    folder.mkdir()
    for backbone in ("bert", "modernbert", "deberta-v2"):
        add_version(folder, lambda target, backbone=backbone: shutil.copytree(tiny_folders[backbone], target))
    for name, parent in (("0002", "0001"), ("0003", "0001")):
        notes = {"parent": parent, "time": "2026-01-01", "signals": 3, "verdict": {"is_accepted": name == "0002"}}
        (folder / name / NOTES).write_text(json.dumps(notes), encoding="utf-8")
    set_current(folder, "0003")
    return folder


def names(model):
    return [(version.name, version.is_current) for version in versions(model)]


def test_a_folder_of_versions_loads_as_the_current_one(model, tiny_folders):
    found = Reranker(model, device="cpu", backend="torch").rank("chain", ["oil the chain", "pump"])

    expected = Reranker(tiny_folders["deberta-v2"], device="cpu", backend="torch").rank(
        "chain", ["oil the chain", "pump"]
    )
    assert [hit.logit for hit in found] == [hit.logit for hit in expected]
    assert locate(str(model)) == model / "0003"


def test_rolling_back_goes_to_the_version_that_was_learned_from(model):
    assert rollback(model).name == "0001"
    assert names(model) == [("0001", True), ("0002", False), ("0003", False)]
    assert locate(model) == model / "0001"

    with pytest.raises(InputError, match="there is no version before the current one"):
        rollback(model)
    assert rollback(model, "0002").is_current


def test_an_unknown_version_is_refused(model):
    with pytest.raises(InputError, match="`to` must be one of the versions `0001`, `0002`, `0003`, got '0009'"):
        rollback(model, "0009")


def test_what_holds_no_versions_is_refused(tmp_path, tiny_folders):
    for folder in (tmp_path, tiny_folders["bert"], tmp_path / "missing"):
        with pytest.raises(CheckpointError, match="holds no versions"):
            versions(folder)


@pytest.mark.parametrize("current", ["../elsewhere", "0009", 7, None])
def test_a_config_that_names_no_version_is_refused(model, current):
    (model / "config.json").write_text(json.dumps({"model_type": "GLiClassVersions", "current": current}))

    with pytest.raises(CheckpointError, match=r"must name a version|holds no version"):
        Reranker(model, device="cpu")


def test_old_versions_are_pruned_but_neither_the_current_one_nor_its_parent(model):
    prune(model, 2)
    assert [version.name for version in versions(model)] == ["0001", "0003"]

    assert add_version(model, lambda target: target.mkdir()) == "0004"


def test_the_commands_list_and_roll_back(model, capsys):
    assert main(["versions", str(model)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "  0001  start",
        "  0002  2026-01-01  3 signals  accepted",
        "* 0003  2026-01-01  3 signals  refused",
    ]

    assert main(["rollback", str(model), "--to", "0002"]) == 0
    assert capsys.readouterr().out == "0002\n"
    assert main(["rollback", str(model), "--to", "x"]) == 2
    assert "error: `to` must be one of the versions" in capsys.readouterr().err
