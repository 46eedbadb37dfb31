"""Checkpoints as cross-encoders: what is promised of pairs, and the real mteb and beir on collections in memory."""

from __future__ import annotations

import copy
import json
import shutil
import sys

import numpy as np
import pytest
from tiny_checkpoints import change_config, words, write_tiny_checkpoint

import gliclass_rerank.learn.evaluation.adapters as adapters
from gliclass_rerank import ConfigError, InputError, MissingDependencyError, Reranker, WindowOverflowError
from gliclass_rerank.learn.evaluation.adapters import BeirReranker, MtebReranker, pair_logits
from gliclass_rerank.learn.evaluation.ranking import evaluate_run

QUERIES = {"q1": "squeal brake", "q2": "slip chain", "q3": "wrench"}
CORPUS = {
    "d1": {"title": "brake pad", "text": "clean rim dirt squeal"},
    "d2": {"title": "", "text": "chain link lube oil wax"},
    "d3": {"text": "wheel hub nut torque wrench"},  # no title at all
    "d4": {"title": "", "text": ""},
    "d5": {"title": "", "text": "chain link lube oil wax"},  # d2 again
    "d6": {"title": "slip", "text": "gear cable shift chain drop"},
}
TEXTS = {doc_id: (doc.get("title", "") + " " + doc["text"]).strip() for doc_id, doc in CORPUS.items()}
QRELS = {"q1": {"d1": 1, "d3": 0}, "q2": {"d6": 2, "d2": 1, "d5": 1}, "q3": {"d3": 1}}
CANDIDATES = {"q1": ["d2", "d1", "d4"], "q2": ["d1", "d2", "d5", "d6", "d3"], "q3": ["d4", "d3", "d6"]}


@pytest.fixture(scope="module")
def beir():
    return pytest.importorskip("beir.reranking"), pytest.importorskip("beir.retrieval.evaluation").EvaluateRetrieval


# mteb looks for its default cache when it is imported, in the user's home unless told otherwise.
@pytest.fixture
def mteb(monkeypatch, tmp_path):
    monkeypatch.setenv("MTEB_CACHE", str(tmp_path / "mteb"))
    return pytest.importorskip("mteb")


@pytest.fixture
def tiny(tiny_folder) -> Reranker:
    return Reranker(tiny_folder, device="cpu")


def loader(texts, batch_size=2):
    """Batches as mteb's data loaders give them."""
    return [{"text": texts[start : start + batch_size]} for start in range(0, len(texts), batch_size)]


def by_rank(reranker, query, passages):
    """The logits of one query's passages, in their order."""
    return [hit.logit for hit in sorted(reranker.rank(query, passages), key=lambda hit: hit.index)]


def order(scores):
    return sorted(scores, key=lambda doc_id: -scores[doc_id])


def test_each_query_is_one_ranking_and_scores_come_back_in_the_callers_order(tiny, passages):
    queries = list(QUERIES.values())
    pairs = [(query, passage) for passage in passages for query in queries]  # no query's pairs stand together

    scores = BeirReranker(tiny).predict(pairs)

    for number, query in enumerate(queries):
        assert scores[number :: len(queries)] == pytest.approx(by_rank(tiny, query, passages), abs=1e-5)


def test_a_query_is_asked_once_with_all_its_passages(tiny, monkeypatch):
    asked = []
    rank_many = Reranker.rank_many
    monkeypatch.setattr(
        Reranker, "rank_many", lambda self, *args: (asked.append(copy.deepcopy(args)), rank_many(self, *args))[1]
    )

    pair_logits(tiny, ["oil", "wax", "oil", "oil"], ["rim", "rim", "", "rim"])

    assert asked == [(["oil", "wax"], [["rim", "", "rim"], ["rim"]])]


@pytest.mark.parametrize(("limit", "num_chunks"), [(1, 3), (3, 2), (5, 2), (6, 1)])
def test_chunks_hold_whole_queries(tiny, monkeypatch, limit, num_chunks):
    queries, passages = ["oil", "wax", "oil", "nut", "wax", "oil"], ["rim", "hub", "hub", "rim", "", "wax oil"]
    whole = pair_logits(tiny, queries, passages)
    chunks = []
    rank_many = Reranker.rank_many
    monkeypatch.setattr(Reranker, "rank_many", lambda self, *args: (chunks.append(args), rank_many(self, *args))[1])
    monkeypatch.setattr(adapters, "_PAIRS_AT_ONCE", limit)

    assert pair_logits(tiny, queries, passages) == pytest.approx(whole, abs=1e-5)
    assert len(chunks) == num_chunks
    assert [query for texts, _ in chunks for query in texts] == ["oil", "wax", "nut"]


def test_equal_pairs_have_equal_logits_and_blank_passages_have_one(tiny):
    scores = pair_logits(tiny, ["oil"] * 4, ["rim hub", "", "rim hub", "nut"])

    assert scores[0] == scores[2]
    assert np.isfinite(scores).all()
    assert scores == pytest.approx(by_rank(tiny, "oil", ["rim hub", "", "rim hub", "nut"]), abs=1e-5)


def test_logits_do_not_tie_where_scores_are_saturated(scripted):
    logits = {"rim": 40.0, "hub": 41.0, "nut": 60.0, "oil": -800.0, "wax": -801.0}
    reranker, _ = scripted(logits)
    assert len({hit.score for hit in reranker.rank("chain", list(logits))}) < len(logits)

    assert BeirReranker(reranker).predict([("chain", text) for text in logits]) == list(logits.values())
    assert pair_logits(reranker, ["chain"] * 5, list(logits)) == list(logits.values())


def test_no_pairs_give_no_scores(bundled):
    assert BeirReranker(bundled).predict([]) == []


def test_inputs_are_not_changed(bundled):
    pairs = [["how do plants eat?", "Leaves turn light into sugar."], ["how do plants eat?", ""]]
    before = copy.deepcopy(pairs)

    BeirReranker(bundled).predict(pairs, batch_size=1)

    assert pairs == before


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("oil", r"`sentences` must be a list of \(query, passage\) pairs, got 'oil'"),
        (None, "`sentences` must be a list"),
        (["oil", "rim"], r"`sentences\[0\]` must be a \(query, passage\) pair, got 'oil'"),
        ([("oil", "rim"), ("oil",)], r"`sentences\[1\]` must be a \(query, passage\) pair, got \('oil',\)"),
        ([("oil", "rim"), ("oil", None)], r"`passages\[1\]` must be a string, got None"),
        ([(float("nan"), "rim")], r"`queries\[0\]` must be a string, got nan"),
        ([("oil", "rim"), (" ", "rim")], r"`queries\[1\]` must not be blank, got ' '"),
        ([("oil", "\ud800")], r"`passages\[0\]` must be valid Unicode"),
    ],
)
def test_what_is_no_pair_is_refused_before_anything_is_scored(bundled, monkeypatch, pairs, message):
    monkeypatch.setattr(Reranker, "rank_many", lambda *_: pytest.fail("something was scored"))

    with pytest.raises(InputError, match=message):
        BeirReranker(bundled).predict(pairs)


def test_lists_of_different_lengths_are_refused(bundled):
    with pytest.raises(InputError, match="`passages` must hold one for each of the 2 queries, got 1"):
        pair_logits(bundled, ["oil", "wax"], ["rim"])


def test_a_query_that_outgrows_the_window_is_an_error_or_is_cut(tiny_folders):
    reranker = Reranker(tiny_folders["bert"], device="cpu", max_window_tokens=20, long_query="error")
    long = words(30)

    with pytest.raises(WindowOverflowError):
        BeirReranker(reranker).predict([(long, "rim")])
    cut = BeirReranker(reranker, max_query_chars=13).predict([("  " + long, "rim"), ("oil", "nut")])

    assert cut == pytest.approx(pair_logits(reranker, [long[:13], "oil"], ["rim", "nut"]), abs=1e-5)


@pytest.mark.parametrize("limit", [0, -1, 2.5, True, "9"])
def test_a_limit_that_is_no_count_is_refused(bundled, limit):
    with pytest.raises(ConfigError, match="`max_query_chars` must be a whole number of at least 1"):
        BeirReranker(bundled, max_query_chars=limit)


def test_a_reranker_is_used_as_it_is_and_settings_beside_it_are_refused(bundled):
    with pytest.raises(ConfigError, match="pass either a `Reranker` or `device`, `plan`, not both"):
        BeirReranker(bundled, device="cpu", plan="joint")


@pytest.mark.parametrize("settings", [{"revision": "abc"}, {"device": "cpu"}, {"plan": "joint"}])
def test_neither_does_mteb_get_settings_past_a_reranker(mteb, bundled, settings):
    with pytest.raises(ConfigError, match=f"pass either a `Reranker` or `{next(iter(settings))}`, not both"):
        MtebReranker(bundled, **settings)


def test_a_checkpoint_is_loaded_with_its_settings(tiny_folders):
    loaded = BeirReranker(tiny_folders["bert"], device="cpu", plan="joint")
    expected = Reranker(tiny_folders["bert"], device="cpu", plan="joint")

    assert loaded.predict([("oil", "rim"), ("oil", "nut")]) == pytest.approx(
        by_rank(expected, "oil", ["rim", "nut"]), abs=1e-6
    )


def test_without_mteb_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mteb", None)

    with pytest.raises(MissingDependencyError, match=r"pip install 'gliclass-rerank\[mteb\]'"):
        MtebReranker("a folder that nobody reads")


# --- beir ---------------------------------------------------------------------------------------------------------


def beir_run(beir, reranker, top_k):
    reranking, evaluation = beir
    found = {query_id: {doc: 1.0 / rank for rank, doc in enumerate(docs, 1)} for query_id, docs in CANDIDATES.items()}
    before = copy.deepcopy((CORPUS, QUERIES, found))
    run = reranking.Rerank(BeirReranker(reranker), batch_size=2).rerank(CORPUS, QUERIES, found, top_k=top_k)
    assert (CORPUS, QUERIES, found) == before
    return run, evaluation


def test_beir_reranks_and_measures_what_we_measure(beir, tiny):
    run, evaluation = beir_run(beir, tiny, top_k=100)

    for query_id, docs in CANDIDATES.items():
        expected = by_rank(tiny, QUERIES[query_id], [TEXTS[doc_id] for doc_id in docs])
        assert [run[query_id][doc_id] for doc_id in docs] == pytest.approx(expected, abs=1e-5)
    ours = evaluate_run(QRELS, {query_id: order(scores) for query_id, scores in run.items()})
    ndcg, *_ = evaluation.evaluate(QRELS, run, k_values=[1, 10])
    assert ndcg["NDCG@10"] == pytest.approx(ours.ndcg_at_10, abs=1e-4)  # beir rounds
    mrr = evaluation.evaluate_custom(QRELS, run, [10], metric="mrr")
    assert mrr["MRR@10"] == pytest.approx(ours.mrr_at_10, abs=1e-4)


def test_beir_cuts_the_candidates_and_the_bundled_model_puts_the_answer_first(beir, bundled):
    run, _ = beir_run(beir, bundled, top_k=2)

    assert {query_id: set(scores) for query_id, scores in run.items()} == {
        query_id: set(docs[:2]) for query_id, docs in CANDIDATES.items()
    }
    assert {query_id: order(scores)[0] for query_id, scores in run.items()} == {"q1": "d1", "q2": "d2", "q3": "d3"}


# --- mteb ---------------------------------------------------------------------------------------------------------


def test_batches_are_read_to_their_end_and_scores_are_an_array(mteb, bundled):
    texts = ["Leaves turn light into sugar.", "A wheel has spokes.", ""]
    model = MtebReranker(bundled)

    scores = model.predict(
        loader(["how do plants eat?"] * 3, batch_size=3),
        loader(texts, batch_size=2),
        task_metadata=None,
        hf_split="test",
        hf_subset="default",
        prompt_type=None,
        batch_size=32,
    )

    assert scores.shape == (3,)
    assert scores.dtype == np.float64
    assert scores.tolist() == pytest.approx(by_rank(bundled, "how do plants eat?", texts), abs=1e-6)


@pytest.mark.parametrize(
    ("queries", "passages", "message"),
    [
        (loader(["oil"] * 3), loader(["rim"] * 2), "`passages` must hold one for each of the 3 queries, got 2"),
        ([{"image": [1]}], loader(["rim"]), "`inputs1` must have the column `text`, got `image`"),
        (loader(["oil"]), [{"audio": [1], "id": ["d"]}], "`inputs2` must have the column `text`, got `audio`, `id`"),
        (loader(["oil"]), loader([None]), r"`passages\[0\]` must be a string, got None"),
    ],
)
def test_batches_that_are_no_pairs_are_refused(mteb, bundled, queries, passages, message):
    with pytest.raises(InputError, match=message):
        MtebReranker(bundled).predict(queries, passages)


def test_it_is_a_cross_encoder_to_mteb_and_nothing_else(mteb, bundled):
    protocols = mteb.models
    model = MtebReranker(bundled)

    assert isinstance(model, protocols.CrossEncoderProtocol)
    assert not isinstance(model, protocols.EncoderProtocol)
    assert not isinstance(model, protocols.SearchProtocol)
    assert model.mteb_model_meta.is_cross_encoder
    protocols.ModelMeta.model_validate(model.mteb_model_meta.model_dump())  # `create_empty` checks nothing


def meta(*args, **settings):
    return MtebReranker(*args, device="cpu", **settings).mteb_model_meta


def test_results_are_filed_by_what_a_checkpoint_holds(mteb, tiny_folders, tmp_path):
    here = tmp_path / "here" / "final"
    shutil.copytree(tiny_folders["bert"], here)
    there = shutil.copytree(here, tmp_path / "there" / "final")
    (there / "README.md").write_text("a card")
    other = write_tiny_checkpoint(tmp_path / "elsewhere" / "final", "deberta-v2")
    scaled = shutil.copytree(here, tmp_path / "scaled" / "final")
    change_config(scaled, logit_scale_init_value=3.0)

    assert meta(here).name == meta(other).name == "gliclass-rerank/final"
    assert meta(here).revision == meta(there).revision
    assert len({folder_meta.revision for folder_meta in map(meta, (here, other, scaled))}) == 3
    assert meta(None).name == f"gliclass-rerank/{Reranker(device='cpu').name}"
    assert len({meta(None).revision, meta(here).revision, meta(other).revision}) == 3
    assert meta(here).experiment_kwargs is None
    assert meta(here, plan="joint", max_query_chars=9, batch_tokens=64).experiment_kwargs == {
        "plan": "joint",
        "max_query_chars": 9,
    }


def test_a_hub_checkpoint_is_filed_under_its_name_and_revision(mteb, bundled, monkeypatch):
    monkeypatch.setattr(
        Reranker, "settings", {"model": "knowledgator/some-model", "revision": "abc", "dtype": "float32"}
    )
    monkeypatch.setattr(Reranker, "name", "knowledgator/some-model")

    described = MtebReranker(bundled).mteb_model_meta

    assert (described.name, described.revision) == ("knowledgator/some-model", "abc")
    assert described.experiment_kwargs == {"dtype": "float32"}
    assert described.loader is MtebReranker


@pytest.fixture
def bicycle_task(mteb):
    """A reranking task in memory, with a title, an empty document, equal documents and an instruction."""
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.mocks.mock_tasks.reranking import MockRerankingTask

    class BicycleReranking(AbsTaskRetrieval):
        metadata = MockRerankingTask.metadata.model_copy(
            update={"name": "BicycleReranking", "main_score": "ndcg_at_10"}
        )

        def load_data(self, **_):
            queries = [{"id": i, "text": text, "instruction": "clean dry"} for i, text in QUERIES.items()]
            corpus = [{"id": i, "title": doc.get("title", ""), "text": doc["text"]} for i, doc in CORPUS.items()]
            split = {
                "queries": Dataset.from_list(queries),
                "corpus": Dataset.from_list(corpus),
                "relevant_docs": copy.deepcopy(QRELS),
                "top_ranked": copy.deepcopy(CANDIDATES),
            }
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    return BicycleReranking()


def mteb_scores(mteb, model, task, **options):
    result = mteb.evaluate(model, task, co2_tracker=False, show_progress_bar=False, **options)
    return result.task_results[0].scores["test"][0]


def test_mteb_ranks_as_we_do_and_measures_what_we_measure(mteb, tiny, bicycle_task, tmp_path):
    scores = mteb_scores(
        mteb, MtebReranker(tiny), bicycle_task, cache=None, prediction_folder=tmp_path, encode_kwargs={"batch_size": 2}
    )

    [written] = tmp_path.glob("*predictions.json")
    run = json.loads(written.read_text())["default"]["test"]
    for query_id, docs in CANDIDATES.items():
        expected = by_rank(tiny, f"{QUERIES[query_id]} clean dry", [TEXTS[doc_id] for doc_id in docs])
        assert [run[query_id][doc_id] for doc_id in docs] == pytest.approx(expected, abs=1e-5)
    ours = evaluate_run(QRELS, {query_id: order(found) for query_id, found in run.items()})
    assert scores["ndcg_at_10"] == pytest.approx(ours.ndcg_at_10, abs=1e-4)
    assert scores["mrr_at_10"] == pytest.approx(ours.mrr_at_10, abs=1e-4)


@pytest.mark.parametrize("name", ["MockRerankingTask", "MockMultilingualRerankingTask"])
def test_mtebs_own_mock_tasks_run(mteb, bundled, name):
    from mteb.mocks.mock_tasks import reranking

    assert 0 <= mteb_scores(mteb, MtebReranker(bundled), getattr(reranking, name)(), cache=None)["main_score"] <= 1


def test_mteb_keeps_the_results_of_two_checkpoints_apart(mteb, tiny_folders, bicycle_task, tmp_path):
    cache = mteb.ResultCache(tmp_path / "cache")
    folders = [shutil.copytree(tiny_folders[name], tmp_path / name / "final") for name in ("bert", "deberta-v2")]
    for folder in folders:
        mteb_scores(mteb, MtebReranker(folder, device="cpu"), bicycle_task, cache=cache)
    results = {path.parent.name for path in (tmp_path / "cache").rglob("BicycleReranking.json")}

    again = MtebReranker(shutil.copytree(folders[0], tmp_path / "moved" / "final"), device="cpu")
    again.predict = lambda *_, **__: pytest.fail("the result was there")
    mteb_scores(mteb, again, bicycle_task, cache=cache)

    assert results == {MtebReranker(folder, device="cpu").mteb_model_meta.revision for folder in folders}


def test_mteb_loads_it_by_its_registry(mteb, tiny_folders, bicycle_task, tmp_path, monkeypatch):
    shutil.copytree(tiny_folders["bert"], tmp_path / "somebody" / "bert")
    monkeypatch.chdir(tmp_path)
    registered = mteb.models.ModelMeta.create_empty(
        {"name": "somebody/bert", "loader": MtebReranker, "experiment_kwargs": {"plan": "joint"}}
    )

    model = registered.load_model(device="cpu")
    scores = model.predict(loader(["oil"] * 2), loader(["rim", "nut"]))

    expected = Reranker(tmp_path / "somebody" / "bert", device="cpu", plan="joint")
    assert scores.tolist() == pytest.approx(by_rank(expected, "oil", ["rim", "nut"]), abs=1e-5)
    assert model.mteb_model_meta.name == "somebody/bert"
