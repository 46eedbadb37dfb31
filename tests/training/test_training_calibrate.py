import json
import math
import re

import pytest
import torch
import typer
from safetensors.torch import load_file
from tiny_checkpoints import write_tiny_checkpoint
from typer.testing import CliRunner

from gliclass_rerank import Reranker, ZeroShotClassifier
from gliclass_rerank.cascade import CascadeConfig, save_cascade
from gliclass_rerank.checkpoint.loading import load_checkpoint
from gliclass_rerank.checkpoint.location import read_config
from gliclass_rerank.errors import CheckpointError, ConfigError, DataError
from gliclass_rerank.learn.evaluation.collection import Collection
from gliclass_rerank.learn.training import calibrate, command

PASSAGES = {"a": "oil the chain", "b": "true the wheel", "c": "ring the bell", "d": "inflate the tyre"}


LABELS = ["oil", "bell", "wheel"]


def collection_for(model, *, num_queries=8, relevant=0):
    """Judgments that call the passage at one place of the model's own ranking relevant."""
    queries = {str(number): f"question {number} about the chain" for number in range(num_queries)}
    ids = list(PASSAGES)
    reranker = Reranker(model, device="cpu")
    qrels = {
        key: {ids[reranker.rank(query, list(PASSAGES.values()))[relevant].index]: 1} for key, query in queries.items()
    }
    return Collection("bicycles", queries, PASSAGES, qrels, dict.fromkeys(queries, tuple(ids)))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("model") / "bert", "bert")


def test_scores_become_what_slope_and_intercept_say_and_logits_stay(model, tmp_path):
    report = calibrate(model, [collection_for(model)], tmp_path / "out")
    assert (report.overall.num_queries, report.overall.num_pairs) == (8, 32)
    config, (slope, intercept) = load_checkpoint(tmp_path / "out").config, report.score
    assert (config.score_calibration, config.answerable_calibration) == (report.score, report.answerable)
    before, after = (
        Reranker(folder, device="cpu").rank("chain", list(PASSAGES.values())) for folder in (model, tmp_path / "out")
    )
    assert [(hit.index, hit.logit) for hit in after] == [(hit.index, hit.logit) for hit in before]
    for hit in after:
        assert hit.score == pytest.approx(1 / (1 + math.exp(-(slope * hit.logit + intercept))), rel=1e-12)
    assert [hit.score for hit in after] != [hit.score for hit in before]


def test_a_cascade_keeps_its_parts_and_gets_a_calibration_of_its_own(model, tmp_path):
    save_cascade(
        CascadeConfig(first="first", second="second", rerank_depth=4),
        tmp_path / "in",
        {"first": model, "second": model},
    )
    report = calibrate(tmp_path / "in", [collection_for(tmp_path / "in")], tmp_path / "out")

    assert CascadeConfig.from_dict(read_config(tmp_path / "out")) == CascadeConfig(
        first="first",
        second="second",
        rerank_depth=4,
        score_calibration=report.score,
        answerable_calibration=report.answerable,
        unseen_calibration=report.unseen,
    )
    assert report.unseen is not None
    before, after = (
        Reranker(tmp_path / name, device="cpu").rank("chain", list(PASSAGES.values())) for name in ("in", "out")
    )
    assert [(hit.index, hit.logit) for hit in after] == [(hit.index, hit.logit) for hit in before]


def test_the_error_on_left_out_queries_is_less_where_scores_were_off(model, tmp_path):
    report = calibrate(model, [collection_for(model)], tmp_path / "out")
    assert 0 <= report.overall.error_after < report.overall.error_before <= 1
    assert report.figures == {"bicycles": report.overall}


def test_a_calibration_is_replaced_not_stacked(model, tmp_path):
    collection = collection_for(model)
    first = calibrate(model, [collection], tmp_path / "one")
    second = calibrate(tmp_path / "one", [collection], tmp_path / "two")
    assert (second.score, second.answerable) == (first.score, first.answerable)
    assert second.overall.error_before < first.overall.error_before


def test_labels_keep_their_scores(model, tmp_path):
    calibrate(model, [collection_for(model)], tmp_path / "out")
    plain, calibrated = (
        ZeroShotClassifier(folder, device="cpu")(["the chain"], ["oil", "bell"], threshold=0)
        for folder in (model, tmp_path / "out")
    )
    assert calibrated == plain


def test_a_ranking_upside_down_is_refused_and_nothing_is_written(model, tmp_path):
    with pytest.raises(DataError, match="rise with relevance"):
        calibrate(model, [collection_for(model, relevant=-1)], tmp_path / "out")
    assert not any(tmp_path.iterdir())


def test_an_existing_folder_is_kept(model, tmp_path):
    with pytest.raises(CheckpointError, match="exists already"):
        calibrate(model, [collection_for(model)], tmp_path)


def test_one_query_is_too_few(model, tmp_path):
    with pytest.raises(DataError, match="at least two judged queries, got 1"):
        calibrate(model, [collection_for(model, num_queries=1)], tmp_path / "out")


@pytest.mark.parametrize("value", [[0, 1], [-1.0, 0.0], [1.0], [1.0, "x"], "ab", [float("nan"), 0.0], [True, 0], {}])
def test_a_broken_calibration_is_refused_by_name(model, tmp_path, value):
    folder = write_tiny_checkpoint(tmp_path / "bert", "bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "score_calibration": value}))
    with pytest.raises(ConfigError, match=r"`score_calibration` must be a slope above 0 and an intercept, got"):
        load_checkpoint(folder)


def labelled_file(folder, model):
    """Texts labelled as the model itself would."""
    folder.mkdir()
    logits = ZeroShotClassifier(model, device="cpu").logits("the chain", LABELS)
    best = LABELS[logits.index(max(logits))]
    (folder / "labels.json").write_text(json.dumps(LABELS))
    rows = [{"text": f"the chain {number}", "labels": [best]} for number in range(12)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "train.jsonl"


def test_the_command_prints_what_it_did(model, tmp_path):
    collection = collection_for(model)
    folder = tmp_path / "data"
    folder.mkdir()
    rows = {
        "queries.jsonl": [{"id": key, "text": text} for key, text in collection.queries.items()],
        "corpus.jsonl": [{"id": key, "text": text} for key, text in PASSAGES.items()],
        "candidates.jsonl": [{"query_id": key, "doc_ids": list(ids)} for key, ids in collection.candidates.items()],
    }
    for name, lines in rows.items():
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "qrels.dev.tsv").write_text(
        "".join(f"{key}\t{doc_id}\t1\n" for key, grades in collection.qrels.items() for doc_id in grades)
    )
    app = typer.Typer()
    app.command()(command.calibrate)
    arguments = [tmp_path / "out", model, "--data", folder, "--dtype", "float16", "--relevant-share", 0.5]
    arguments += ["--labels", labelled_file(tmp_path / "classes", model)]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    assert re.search(r"^data +8 +0\.\d+ -> 0\.\d+ ", result.stdout, re.MULTILINE)
    assert "(on queries left out of the fit; precision and recall at 0.5)" in result.stdout
    assert re.search(r"^label .*\nclasses +12 +0\.\d+ -> 0\.\d+ ", result.stdout, re.MULTILINE)
    config = load_checkpoint(tmp_path / "out").config
    assert config.score_calibration is not None
    assert config.label_calibration is not None
    # A later calibration of scores alone keeps it.
    calibrate(tmp_path / "out", [collection], tmp_path / "again")
    assert load_checkpoint(tmp_path / "again").config.label_calibration == config.label_calibration
    assert {tensor.dtype for tensor in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.float16}


def test_a_cascade_has_no_labels_to_calibrate(model, tmp_path):
    save_cascade(CascadeConfig(first="first", second="second"), tmp_path / "in", {"first": model, "second": model})

    with pytest.raises(CheckpointError, match="a cascade has no labels to calibrate"):
        calibrate(tmp_path / "in", [collection_for(model)], tmp_path / "out", labels={"a": [object()]})
