import math
from pathlib import Path

import pytest
from tiny_checkpoints import tiny_checkpoint
from training_data import classification_records, ranking_records, write_lines

from gliclass_rerank import Reranker, ZeroShotClassifier
from gliclass_rerank.errors import DataError
from gliclass_rerank.learn.evaluation.collection import load_collection
from gliclass_rerank.learn.evaluation.ranking import rerank_collection
from gliclass_rerank.learn.training.dev import DevSets, LiveScorer, classification_figures, columns, selected
from gliclass_rerank.learn.training.records import ClassificationRecord
from gliclass_rerank.learn.training.source_config import DevConfig
from gliclass_rerank.pipeline import build_planner
from gliclass_rerank.settings import ModelSettings

LABELS = ("brakes", "chain", "saddle")


def live(backbone, plan="shared_query"):
    checkpoint = tiny_checkpoint(backbone)
    planner = build_planner(checkpoint, plan, ModelSettings())
    return checkpoint, LiveScorer(checkpoint.model, planner, plan)


def labelled(*labels, text="t"):
    return ClassificationRecord("file:1", text, labels, ("a", "b", "c"))


def test_macro_f1_of_single_labels():
    records = [labelled("a"), labelled("a"), labelled("b"), labelled("b")]
    logits = [[3, 1, 0], [0, 0, 2], [0, 5, 1], [0, 5, 1]]  # predicted a, c, b, b
    macro_f1, accuracy = classification_figures(records, logits)
    # a: 1 of 1 predicted and of 2 true; b: all; c: predicted, never true
    assert macro_f1 == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert accuracy == 3 / 4


def test_macro_f1_of_several_labels_predicts_at_a_score_of_one_half():
    records = [labelled("a", "b"), labelled(), labelled("c")]
    logits = [[0.0, -1, -1], [-1, -1, -1], [2, -1, 1]]  # predicted a; none; a and c
    macro_f1, accuracy = classification_figures(records, logits)
    assert macro_f1 == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert accuracy == 1 / 3


def test_a_tie_goes_to_the_first_label():
    assert classification_figures([labelled("a")], [[1, 1, 1]]) == (1, 1)


@pytest.mark.parametrize(("backbone", "plan"), [("bert", "shared_query"), ("deberta-v2", "joint")])
def test_ranking_figures_are_those_of_the_reranker(tiny_folders, tmp_path, backbone, plan):
    records = ranking_records(6, num_passages=4)
    records[0]["passages"][1] = records[0]["passages"][0]  # equal passages are scored once
    path = write_lines(tmp_path / "dev.jsonl", records)
    _, scorer = live(backbone, plan)
    figures = DevSets([DevConfig(path=path, kind="ranking")]).measure(scorer)
    reranker = Reranker(tiny_folders[backbone], device="cpu", plan=plan)
    for record in records:
        expected = [hit.index for hit in reranker.rank(record["query"], record["passages"])]
        assert scorer.order(record["query"], record["passages"]) == expected
    assert set(figures) == {"dev.ndcg@10", "dev.mrr@10"}
    ranks = [scorer.order(r["query"], r["passages"]).index(r["grades"].index(1)) + 1 for r in records]
    assert figures["dev.mrr@10"] == pytest.approx(sum(1 / rank for rank in ranks) / 6)
    assert figures["dev.ndcg@10"] == pytest.approx(sum(1 / math.log2(rank + 1) for rank in ranks) / 6)


def test_a_collection_folder_is_measured_as_evaluate_does(tmp_path):
    write_lines(tmp_path / "queries.jsonl", [{"id": "q", "text": "bell"}])
    write_lines(tmp_path / "corpus.jsonl", [{"id": n, "title": "chain", "text": n} for n in ("oil", "bell", "rim")])
    write_lines(tmp_path / "candidates.jsonl", [{"query_id": "q", "doc_ids": ["oil", "bell", "rim"]}])
    (tmp_path / "qrels.dev.tsv").write_text("q\tbell\t2\nq\toil\t0\n")
    _, scorer = live("bert")
    figures = DevSets([DevConfig(path=tmp_path, kind="ranking", name="c")]).measure(scorer)
    expected = rerank_collection(load_collection(tmp_path, "dev"), scorer.order).reranked
    assert figures == {"c.ndcg@10": expected.ndcg_at_10, "c.mrr@10": expected.mrr_at_10}


def test_rankings_are_measured_with_their_examples(tiny_folders, tmp_path):
    records = ranking_records(7, num_passages=5)
    for record, other in zip(records, reversed(records), strict=True):
        record["examples"] = [{"text": other["query"], "true_labels": other["passages"][:2]}]
    path = write_lines(tmp_path / "dev.jsonl", records)
    _, scorer = live("bert")
    reranker = Reranker(tiny_folders["bert"], device="cpu", plan="shared_query")

    def mean_rank(**options):
        ranks = []
        for record in records:
            shown = {name: record[name] for name in options}
            order = [hit.index for hit in reranker.rank(record["query"], record["passages"], **shown)]
            ranks.append(1 / (order.index(record["grades"].index(1)) + 1))
        return sum(ranks) / len(ranks)

    figures = DevSets([DevConfig(path=path, kind="ranking")]).measure(scorer)
    assert figures["dev.mrr@10"] == pytest.approx(mean_rank(examples=True))
    assert figures["dev.mrr@10"] != pytest.approx(mean_rank())


def test_classification_figures_are_those_of_the_classifier(tiny_folders, tmp_path):
    path = write_lines(tmp_path / "dev.jsonl", classification_records(9, LABELS))
    config = DevConfig(path=path, kind="classification", labels=LABELS, prompt="Classify: ", limit=5)
    _, scorer = live("modernbert", "joint")
    figures = DevSets([config]).measure(scorer)
    classifier = ZeroShotClassifier(tiny_folders["modernbert"], device="cpu")
    records = [classification_records(9, LABELS)[index] for index in (0, 1, 3, 5, 7)]  # spread evenly
    hits = [
        classifier(record["text"], LABELS, multi_label=False, prompt="Classify: ")[0][0].label in record["labels"]
        for record in records
    ]
    assert figures["dev.accuracy"] == sum(hits) / 5


def test_measuring_leaves_the_model_in_its_mode():
    checkpoint, scorer = live("bert")
    checkpoint.model.train()
    scorer.order("bell", ["chain", "oil"])
    assert checkpoint.model.training


def test_one_number_decides():
    configs = [DevConfig(path=Path("a"), kind="ranking"), DevConfig(path=Path("b"), kind="classification")]
    figures = {"a.ndcg@10": 0.5, "a.mrr@10": 0.1, "b.macro_f1": 0.7, "b.accuracy": 0.9}
    assert columns(configs) == list(figures)
    assert selected(configs, None, figures) == pytest.approx(0.6)
    assert selected(configs, "b.accuracy", figures) == 0.9


def test_a_dev_set_must_be_measurable(tmp_path):
    record = {"query": "q", "passages": ["a", "b"], "grades": [0.5, 0]}
    with pytest.raises(DataError, match=r"half\.jsonl:1: grades of a dev set must be whole numbers, got 0\.5"):
        DevSets([DevConfig(path=write_lines(tmp_path / "half.jsonl", [record]), kind="ranking")])
    none = write_lines(tmp_path / "none.jsonl", [{**record, "grades": [0, 0]}])
    with pytest.raises(DataError, match="none: no record has a positive grade, so there is nothing to measure"):
        DevSets([DevConfig(path=none, kind="ranking")])
