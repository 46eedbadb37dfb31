"""Hostile values in every argument, and hostile texts: answered or refused, and other passages keep their places."""

import logging
import sys
from pathlib import Path

import numpy as np
import pytest
from attack_ledger import quotes_too_much
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gliclass_rerank import Example, Reranker, RerankStage, ZeroShotClassifier
from gliclass_rerank.examples import CallableEncoder, ExampleStore

sys.path.insert(0, str(Path(__file__).parent))
from hostile import LONG, values

QUERY, PASSAGES = "how to stop a slipping chain", ["Replace the chain.", "Ring the bell.", "Oil the lock."]
TEXTS = [
    "",
    " ",
    "<<LABEL>>",
    "<<SEP>>",
    "[SEP]",
    "[CLS]",
    "<<EXAMPLE>>",
    "a\0b",
    "\u202edetrevni\u202c",
    "\ufeff",
    "e\u0301" * 50,
]


def numbers(texts):
    """Vectors of a few numbers, the same for the same text."""
    return np.array(
        [[1 + len(text), text.count("e"), text.count("a"), sum(map(ord, text[:50])) % 97] for text in texts]
    )


ENCODER = CallableEncoder(numbers, name="attack")


@pytest.fixture
def store(tmp_path):
    with ExampleStore(tmp_path / "judged.db", ENCODER, backend="numpy") as made:
        made.add([Example(QUERY, ["Replace the chain."], ["Ring the bell."])], ids=["one"], metadata=[{"a": 1}])
        yield made


@pytest.fixture
def tiny(scripted, store):
    reranker, _ = scripted({}, example_store=store)
    return reranker


@pytest.fixture
def labels(scripted):
    classifier, _ = scripted({}, kind=ZeroShotClassifier)
    return classifier


def sample(attack, count):
    """Some of the values in the default run, another part of them in each test; all of them in the long one."""
    every = values()
    wanted = min(len(every), attack.budget(count))
    step = len(every) / wanted
    return [every[int(number * step)] for number in range(wanted)]


def of_reranker(one):
    return {
        "rank query": lambda value: one.rank(value, PASSAGES),
        "rank passages": lambda value: one.rank(QUERY, value),
        "rank passage": lambda value: one.rank(QUERY, [PASSAGES[0], value]),
        "rank top_k": lambda value: one.rank(QUERY, PASSAGES, top_k=value),
        "rank examples": lambda value: one.rank(QUERY, PASSAGES, examples=value),
        "rank example": lambda value: one.rank(QUERY, PASSAGES, examples=[value]),
        "rank example text": lambda value: one.rank(QUERY, PASSAGES, examples=[{"text": value, "labels": ["a"]}]),
        "rank example labels": lambda value: one.rank(QUERY, PASSAGES, examples=[{"text": "a", "labels": value}]),
        "rank_many queries": lambda value: one.rank_many(value, [PASSAGES]),
        "rank_many lists": lambda value: one.rank_many([QUERY], value),
        "rank_many list": lambda value: one.rank_many([QUERY], [value]),
        "examples_for": lambda value: one.examples_for(value),
        "feedback query": lambda value: one.feedback(value, ["a"]),
        "feedback relevant": lambda value: one.feedback(QUERY, value),
        "feedback irrelevant": lambda value: one.feedback(QUERY, ["a"], value),
        "feedback id": lambda value: one.feedback(QUERY, ["a"], id=value),
        "feedback metadata": lambda value: one.feedback(QUERY, ["a"], metadata=value),
        "feedback metadata value": lambda value: one.feedback(QUERY, ["a"], metadata={"key": value}),
    }


def of_classifier(one):
    return {
        "classify texts": lambda value: one(value, ["a", "b"]),
        "classify text": lambda value: one(["a", value], ["a", "b"]),
        "classify labels": lambda value: one("text", value),
        "classify label": lambda value: one("text", ["a", value]),
        "classify hierarchy": lambda value: one("text", {"a": value}),
        "classify threshold": lambda value: one("text", ["a"], threshold=value),
        "classify multi_label": lambda value: one("text", ["a"], multi_label=value),
        "classify prompt": lambda value: one("text", ["a"], prompt=value),
        "classify examples": lambda value: one("text", ["a"], examples=value),
        "classify format": lambda value: one("text", ["a"], example_format=value),
        "logits text": lambda value: one.logits(value, ["a"]),
        "logits labels": lambda value: one.logits("text", value),
    }


def of_stage(reranker):
    one, fused = RerankStage(reranker=reranker), RerankStage(reranker=reranker, fusion="weighted")
    return {
        "run query": lambda value: one.run(value, PASSAGES),
        "run passages": lambda value: one.run(QUERY, value),
        "run passage": lambda value: one.run(QUERY, [value]),
        "run scores": lambda value: one.run(QUERY, PASSAGES, value),
        "run score": lambda value: fused.run(QUERY, PASSAGES, [1.0, 0.5, value]),
        "run top_k": lambda value: one.run(QUERY, PASSAGES, top_k=value),
        "run threshold": lambda value: one.run(QUERY, PASSAGES, score_threshold=value),
        "run examples": lambda value: one.run(QUERY, PASSAGES, examples=value),
        "stage top_k": lambda value: RerankStage(top_k=value),
        "stage threshold": lambda value: RerankStage(score_threshold=value),
        "stage prefix": lambda value: RerankStage(query_prefix=value),
        "stage passage_prefix": lambda value: RerankStage(passage_prefix=value),
        "stage fusion": lambda value: RerankStage(fusion=value),
        "stage weight": lambda value: RerankStage(fusion_weight=value),
        "stage on_error": lambda value: RerankStage(on_error=value),
        "stage examples": lambda value: RerankStage(examples=value),
        "stage reranker": lambda value: RerankStage(reranker=value),
        "stage setting": lambda value: RerankStage(reranker={"example_store": value}),
        "stage store": lambda value: RerankStage(example_store=value),
        "stage model": lambda value: RerankStage(model=value),
        "stage flags": lambda value: RerankStage(keep_retrieval_score=value, report_truncation=value),
    }


def of_store(one, folder):
    vector = np.ones(4)
    return {
        "search query": lambda value: one.search(value),
        "search k": lambda value: one.search(QUERY, value),
        "search similarity": lambda value: one.search(QUERY, 3, value),
        "search where": lambda value: one.search(vector, 3, -1, where=value if not callable(value) else None),
        "search where value": lambda value: one.search(vector, 3, -1, where={"a": value}),
        "search exclude_ids": lambda value: one.search(vector, exclude_ids=value),
        "search exclude_text": lambda value: one.search(vector, exclude_text=value),
        "search_many": lambda value: one.search_many(value),
        "search_many texts": lambda value: one.search_many([QUERY], exclude_texts=value),
        "find_examples": lambda value: one.find_examples(value, 3, 0.5),
        "get": lambda value: one.get(value),
        "contains": lambda value: value in one,
        "add": lambda value: one.add(value),
        "add example": lambda value: one.add([value]),
        "add ids": lambda value: one.add([Example("a")], ids=value),
        "add metadata": lambda value: one.add([Example("a")], metadata=value),
        "add metadata entry": lambda value: one.add([Example("a")], metadata=[value]),
        "add metadata value": lambda value: one.add([Example("a")], metadata=[{"key": value}]),
        "update ids": lambda value: one.update(value, [Example("a")]),
        "update examples": lambda value: one.update(["one"], value),
        "update metadata": lambda value: one.update(["one"], [Example("a")], metadata=value),
        "judgements": lambda value: one.add_judgements(value),
        "judgements id": lambda value: one.add_judgements(Example("a"), id=value),
        "judgements metadata": lambda value: one.add_judgements(Example("a"), metadata=value),
        "delete": lambda value: one.delete(value),
        "backup": lambda value: one.backup(value if type(value) is not str else folder / f"{value}.copy"),
        "encoder": lambda value: ExampleStore(None, value) if value is not None else None,
        "backend": lambda value: ExampleStore(None, ENCODER, backend=value),
        "example": lambda value: Example(value, [value], value),
    }


def attacked(attack, surface, asks, count, caplog):
    """Every argument meets some of the values; neither messages nor logs quote long texts."""
    offset = 0
    for name, ask in asks.items():
        every = values()
        wanted = min(len(every), attack.budget(count))
        for number in range(wanted):
            what, value = every[(offset + number * len(every) // wanted) % len(every)]
            attack.attempt(surface, lambda ask=ask, value=value: ask(value), shown=f"{name}: {what}", secret=LONG)
        offset += 5
    assert not quotes_too_much(caplog.text, LONG)


def test_values_in_place_of_arguments_of_a_ranking(attack, tiny, caplog):
    attacked(attack, "ranking: arguments", of_reranker(tiny), 2, caplog)


def test_values_in_place_of_arguments_of_a_classification(attack, labels, caplog):
    attacked(attack, "classifying: arguments", of_classifier(labels), 2, caplog)


def test_values_in_place_of_arguments_of_a_stage(attack, tiny, caplog):
    attacked(attack, "stage: arguments", of_stage(tiny), 2, caplog)


def test_values_in_place_of_arguments_of_a_store(attack, store, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)  # some are names of files
    before = len(store)
    attacked(attack, "store: arguments", of_store(store, tmp_path), 2, caplog)
    assert len(store) >= before - 1  # `delete` and `update` may have met its name


def test_values_in_place_of_a_path(attack, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for what, value in values()[:: 1 if attack.budget(1) > 1 else 4]:
        if value is None:
            continue
        for call in (
            lambda value=value: ExampleStore(value, ENCODER).close(),
            lambda value=value: ExampleStore.reencode(value, ENCODER),
            lambda value=value: Reranker(example_store=value, model="/does/not/exist"),
        ):
            attack.attempt("store: path", call, shown=what, secret=LONG)


# Every argument with a long text, in the default run too: the messages and the log


@pytest.mark.parametrize("kind", ["reranker", "classifier", "stage", "store"])
def test_no_message_and_no_log_quotes_a_long_text(attack, tiny, labels, store, tmp_path, monkeypatch, caplog, kind):
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.DEBUG)
    asks = {
        "reranker": lambda: of_reranker(tiny),
        "classifier": lambda: of_classifier(labels),
        "stage": lambda: of_stage(tiny),
        "store": lambda: of_store(store, tmp_path),
    }[kind]()
    for name, ask in asks.items():
        long = [LONG, [LONG, 3], {LONG: LONG}, [LONG], {"text": LONG, "x": 1}, LONG.encode(), Path(LONG)]
        for value in long[: attack.budget(3)]:
            attack.attempt("messages", lambda ask=ask, value=value: ask(value), shown=name, secret=LONG)
    assert not quotes_too_much(caplog.text, LONG)


def test_what_a_source_says_when_it_fails_is_cut(attack, scripted):
    class Source:
        def find_examples(self, *_, **__):
            raise RuntimeError(LONG)

        def add_judgements(self, *_, **__):
            raise RuntimeError(LONG)

        __repr__ = lambda self: LONG  # noqa: E731

    reranker, _ = scripted({}, example_store=Source())
    attack.attempt("messages", lambda: reranker.rank(QUERY, PASSAGES), secret=LONG)
    attack.attempt("messages", lambda: reranker.feedback(QUERY, ["a"]), secret=LONG)
    attack.attempt("messages", lambda: reranker.settings, secret=LONG)
    kept = RerankStage(reranker=reranker, on_error="keep_order").run(QUERY, PASSAGES)
    assert kept.error.startswith("BackendError: the example store failed: RuntimeError: ")
    assert not quotes_too_much(kept.error, LONG)


# Texts


def test_texts_do_not_move_other_passages(attack, bundled):
    """Under the bundled model's plan a passage's score is its own, whatever lies beside it."""
    clean = {hit.index: hit.logit for hit in bundled.rank(QUERY, PASSAGES)}
    for text in TEXTS[: attack.budget(4)]:
        ranking = attack.attempt(
            "texts: passages",
            lambda text=text: bundled.rank(QUERY, [*PASSAGES, f"{text} chain {text}", text]),
            shown=text,
        )
        moved = {hit.index: hit.logit for hit in ranking if hit.index < len(PASSAGES)}
        assert moved == pytest.approx(clean, abs=1e-4), text
        attack.attempt("texts: query", lambda text=text: bundled.rank(f"{QUERY} {text}", PASSAGES), shown=text)
        attack.attempt(
            "texts: examples", lambda text=text: bundled.rank(QUERY, PASSAGES, examples=[Example(text, [text], [text])])
        )


def test_a_passage_of_a_megabyte_is_cut_and_moves_nobody(attack, bundled):
    clean = {hit.index: hit.logit for hit in bundled.rank(QUERY, PASSAGES)}
    # A word of a megabyte is one unknown token.
    for passage, cut_at in (("chain " * 170_000, [3]), ("x" * 1_000_000, []))[: attack.budget(1)]:
        ranking = attack.attempt("texts: a megabyte", lambda passage=passage: bundled.rank(QUERY, [*PASSAGES, passage]))
        assert {hit.index: hit.logit for hit in ranking if hit.index < 3} == pytest.approx(clean, abs=1e-4)
        assert [cut.index for cut in ranking.truncated] == cut_at


def test_any_text_is_ranked_or_refused(attack, tiny):
    @settings(max_examples=attack.budget(10), deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.text(max_size=40), st.lists(st.text(max_size=40), max_size=4))
    def check(query, passages):
        attack.attempt("texts: any", lambda: tiny.rank(query, passages), shown=(query, passages))

    check()


def test_any_judgement_is_found_again(attack, store):
    @settings(max_examples=attack.budget(8), deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(
        st.text(max_size=30),
        st.lists(st.text(max_size=10), max_size=3),
        st.dictionaries(st.text(max_size=5), st.text()),
    )
    def check(text, labels, metadata):
        example = Example(text, labels) if text.isprintable() else None
        if example is None:
            return
        name = attack.attempt(
            "store: any judgement", lambda: store.add_judgements(example, metadata=metadata), shown=example
        )
        if name is not None:
            stored = store.get(name)
            assert set(labels) <= set(stored.example.true_labels)
            assert metadata.items() <= stored.metadata.items()

    check()
