import json
import logging
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from tiny_checkpoints import MARKERS, tiny_checkpoint, tiny_tokenizer, words
from training_data import classification_records, ranking_records, write_lines

from gliclass_rerank.errors import DataError
from gliclass_rerank.learn.training import AugmentConfig, LossConfig, SourceConfig
from gliclass_rerank.learn.training.mixing import Mixture
from gliclass_rerank.learn.training.questions import ask_about
from gliclass_rerank.learn.training.records import ClassificationRecord, RankingRecord
from gliclass_rerank.learn.training.sources import load_source
from gliclass_rerank.learn.training.stream import Stream, prepared
from gliclass_rerank.prompt.bi_encoder_planner import BiEncoderPlanner
from gliclass_rerank.prompt.layout import PromptLayout, ScoringRequest
from gliclass_rerank.prompt.planner import SharedQueryPlanner
from gliclass_rerank.prompt.tokenizer import TextTokenizer
from gliclass_rerank.types import Example


@pytest.fixture(scope="module")
def planner():
    return SharedQueryPlanner(layout=tiny_checkpoint("bert").layout, max_window_tokens=50)


def stream_of(planner, *sources, seed=0):
    loaded = [(source, load_source(source, seed)) for source in sources]
    return Stream(loaded, planner, seed=seed)


def question_of(record, seed=0, others=(), **options):
    kind = "ranking" if isinstance(record, RankingRecord) else "classification"
    source = SourceConfig(path="unused", kind=kind, **options)
    return ask_about([record, *others], 0, source, np.random.default_rng(seed))


def ranked(num_positives, num_negatives, **changes):
    passages = tuple(f"p{n}" for n in range(num_positives)) + tuple(f"n{n}" for n in range(num_negatives))
    grades = (1.0,) * num_positives + (0.0,) * num_negatives
    return RankingRecord("file:1", "What is the chain?", passages, grades, **changes)


def test_an_item_is_a_function_of_seed_and_position(planner, ranking_file):
    source = SourceConfig(
        path=ranking_file,
        kind="ranking",
        max_candidates=4,
        min_candidates=2,
        random_negatives=1,
        augment=AugmentConfig(lower_case=0.5, cut_passages=0.5),
    )
    first, again, other = (stream_of(planner, source, seed=seed) for seed in (3, 3, 4))
    positions = [40, 7, 0, 41, 7]
    assert [first[position] for position in positions] == [again[position] for position in positions[::-1]][::-1]
    assert first[7] == [again[position] for position in range(9)][7]
    assert first[7] != other[7]
    assert first[7] != first[8]


def test_prepared_items_come_in_order_and_the_thread_ends(planner, ranking_file):
    stream = stream_of(planner, SourceConfig(path=ranking_file, kind="ranking"))
    items = prepared(stream.__getitem__, 5)
    assert [next(items) for _ in range(3)] == [stream[5], stream[6], stream[7]]
    items.close()
    with pytest.raises(StopIteration):
        next(items)


def test_every_record_is_read_once_before_any_is_read_twice():
    mixture = Mixture([5, 3], [1.0, 1.0], seed=0)
    seen = {0: [], 1: []}
    for position in range(3000):
        source, index = mixture.at(position)
        seen[source].append(index)
    for source, size in ((0, 5), (1, 3)):
        passes = [seen[source][start : start + size] for start in range(0, len(seen[source]) - size, size)]
        assert all(sorted(one) == list(range(size)) for one in passes)
        assert len({tuple(one) for one in passes}) > 1, "each pass has an order of its own"


def test_sources_are_read_in_proportion_to_their_weights():
    mixture = Mixture([9, 9, 9], [2.0, 1.0, 1e-9], seed=1)
    counts = Counter(mixture.at(position)[0] for position in range(3000))
    assert counts[0] == pytest.approx(2000, abs=6)
    assert counts[1] == pytest.approx(1000, abs=6)
    assert counts[2] >= 3, "a tiny weight is not none"


def test_token_ids_are_those_of_inference(planner, ranking_file):
    item = stream_of(planner, SourceConfig(path=ranking_file, kind="ranking"))[0]
    question = item.question
    ask = ScoringRequest(text=question.text, candidates=question.candidates, example_format="few_shot")
    assert item.plan == planner.plan(ask, truncate_side="candidates")
    assert item.num_tokens == len(item.plan.requests[0].query_ids) + sum(map(len, item.plan.requests[0].candidate_ids))


EXAMPLES = [{"text": "loose chain", "true_labels": ["oil the chain"], "false_labels": ["ring the bell"]}]


@pytest.mark.parametrize(
    "record",
    [
        {"query": "chain", "passages": ["oil", "bell"], "grades": [1, 0], "examples": EXAMPLES},
        {"text": "chain", "labels": ["oil"], "all_labels": ["oil", "bell"], "examples": EXAMPLES},
    ],
    ids=["ranking", "classification"],
)
@pytest.mark.parametrize("example_format", ["rac", "few_shot"])
def test_examples_are_in_the_prompt_as_inference_writes_them(tmp_path, record, example_format):
    tokenizer = TextTokenizer(tiny_tokenizer(markers=MARKERS if example_format == "few_shot" else MARKERS[:2]))
    planner = SharedQueryPlanner(layout=PromptLayout(tokenizer, prompt_first=True), max_window_tokens=200)
    path = write_lines(tmp_path / "data.jsonl", [record])
    kind = "ranking" if "query" in record else "classification"
    source = SourceConfig(path=path, kind=kind)
    item = Stream([(source, load_source(source, 0))], planner, seed=0)[0]
    ask = ScoringRequest(
        text="chain",
        candidates=item.question.candidates,
        examples=(Example.of(EXAMPLES[0]),),
        example_format=example_format,
    )
    assert item.plan == planner.plan(ask, truncate_side="candidates" if kind == "ranking" else "text")
    bare = planner.plan(replace(ask, examples=()), truncate_side="text")
    assert len(item.plan.requests[0].query_ids) > len(bare.requests[0].query_ids)


def test_examples_are_cut_to_their_budget(tmp_path):
    planner = SharedQueryPlanner(layout=tiny_checkpoint("bert").layout, max_window_tokens=50, max_example_tokens=25)
    long = {
        "query": "chain",
        "passages": ["a", "b"],
        "grades": [1, 0],
        "examples": [{"text": words(30), "labels": ["b"]}],
    }
    source = SourceConfig(path=write_lines(tmp_path / "data.jsonl", [long]), kind="ranking")
    item = stream_of(planner, source)[0]
    bare = planner.plan(ScoringRequest(text="chain", candidates=["a"]), truncate_side="candidates")
    assert 0 < len(item.plan.requests[0].query_ids) - len(bare.requests[0].query_ids) <= 25
    assert item.plan.truncated_examples[0].num_lost > 0


def test_a_model_that_reads_no_examples_refuses_them_with_their_line(tmp_path):
    layout = tiny_checkpoint("bert").layout
    planner = BiEncoderPlanner(
        layout=layout, max_window_tokens=50, label_tokenizer=layout.tokenizer, max_label_tokens=50
    )
    record = {"query": "chain", "passages": ["a", "b"], "grades": [1, 0], "examples": EXAMPLES}
    source = SourceConfig(path=write_lines(tmp_path / "data.jsonl", [record]), kind="ranking")
    with pytest.raises(DataError, match=r"data\.jsonl:1: `examples` have no place in the architecture 'bi-encoder'"):
        stream_of(planner, source)[0]


def test_a_query_that_fills_the_window_is_passed_over(planner, tmp_path, caplog):
    records = [{"query": words(60), "passages": ["a", "b"], "grades": [1, 0]}, *ranking_records(3)]
    stream = stream_of(planner, SourceConfig(path=write_lines(tmp_path / "data.jsonl", records), kind="ranking"))
    with caplog.at_level(logging.WARNING):
        items = [stream[position] for position in range(4)]
    assert all(item.question.text != words(60) for item in items)
    assert "data.jsonl:1 is passed over: the query takes 62 tokens" in caplog.text


def test_a_source_that_never_fits_is_an_error_that_names_a_line(planner, tmp_path):
    records = [{"query": words(60), "passages": ["a", "b"], "grades": [1, 0]}]
    stream = stream_of(planner, SourceConfig(path=write_lines(tmp_path / "data.jsonl", records), kind="ranking"))
    with pytest.raises(DataError, match=r"data\.jsonl:1: no record of this file seems to fit the window"):
        stream[0]


def test_candidates_hold_a_positive_and_room_for_negatives():
    for seed in range(20):
        question = question_of(ranked(6, 6), seed, max_candidates=4)
        assert len(question.candidates) == 4
        assert 1 <= sum(question.grades) <= 3


def test_the_number_of_candidates_varies_where_asked():
    sizes = {len(question_of(ranked(1, 9), seed, min_candidates=2, max_candidates=5).candidates) for seed in range(40)}
    assert sizes == {2, 3, 4, 5}


def test_positives_can_be_limited():
    question = question_of(ranked(6, 3), max_candidates=8, max_positives=1)
    assert sum(question.grades) == 1
    assert len(question.candidates) == 4


def test_order_is_shuffled_and_grades_and_scores_move_along():
    record = ranked(1, 4, teacher_scores={"t": (9.0, 1.0, 2.0, 3.0, 4.0)})
    places = set()
    for seed in range(20):
        question = question_of(record, seed)
        places.add(question.candidates.index("p0"))
        known = dict(zip(record.passages, zip(record.grades, record.teacher_scores["t"], strict=True), strict=True))
        assert [known[text] for text in question.candidates] == list(
            zip(question.grades, question.teacher_scores["t"], strict=True)
        )
    assert len(places) == 5


def test_of_equal_passages_the_best_graded_stays():
    record = RankingRecord("file:1", "q", ("a", "b", "a", "b"), (0.0, float("nan"), 2.0, 0.0))
    question = question_of(record)
    assert dict(zip(question.candidates, question.grades, strict=True)) == {"a": 2.0, "b": 0.0}


def test_unjudged_passages_become_negatives_only_on_request_and_beside_a_positive():
    nan = float("nan")
    judged = RankingRecord("file:1", "q", ("a", "b"), (1.0, nan))
    assert any(np.isnan(question_of(judged).grades))
    assert sorted(question_of(judged, unjudged="negative").grades) == [0.0, 1.0]
    unjudged = RankingRecord("file:1", "q", ("a", "b"), (nan, nan), {"t": (1.0, 2.0)})
    assert all(np.isnan(question_of(unjudged, unjudged="negative").grades))


def test_random_negatives_come_from_other_queries_and_have_no_teacher_scores():
    record = ranked(1, 1, teacher_scores={"t": (2.0, 1.0)})
    others = [RankingRecord(f"file:{n}", f"other {n}", (f"o{n}", "p0"), (1.0, 0.0)) for n in range(9)]
    foreign = set()
    for seed in range(10):
        question = question_of(record, seed, others, max_candidates=5, random_negatives=3)
        for text, grade, score in zip(question.candidates, question.grades, question.teacher_scores["t"], strict=True):
            if text not in record.passages:
                foreign.add(text)
                assert grade == 0
                assert np.isnan(score)
        assert {"p0", "n0"} <= set(question.candidates)
    assert foreign
    assert all(text.startswith("o") for text in foreign)


def test_labels_hold_what_is_true_and_random_others():
    record = ClassificationRecord("file:1", "t", ("b", "d"), tuple("abcdefgh"))
    seen = set()
    for seed in range(20):
        question = question_of(record, seed, max_candidates=4)
        truth = dict(zip(question.candidates, question.grades, strict=True))
        assert {label for label, grade in truth.items() if grade} == {"b", "d"}
        assert len(truth) == 4
        seen |= truth.keys()
    assert seen == set("abcdefgh")


def test_queries_are_changed_as_asked():
    record = ranked(1, 1)

    def text(**changes):
        return question_of(record, augment=AugmentConfig(**changes)).text

    assert text() == "What is the chain?"
    assert text(lower_case=1) == "what is the chain?"
    assert text(drop_question_words=1) == "the chain?"
    assert text(drop_stop_words=1) == "chain?"


def test_a_query_of_stop_words_is_left_alone():
    record = RankingRecord("file:1", "to be or not to be", ("a", "b"), (1.0, 0.0))
    assert question_of(record, augment=AugmentConfig(drop_stop_words=1)).text == "to be or not to be"


def test_passages_are_cut_to_runs_of_at_least_a_third():
    passage = " ".join(map(str, range(12)))
    record = RankingRecord("file:1", "q", (passage, "b"), (1.0, 0.0))
    lengths = set()
    for seed in range(60):
        question = question_of(record, seed, augment=AugmentConfig(cut_passages=1))
        run = next(text for text in question.candidates if text != "b")
        assert run in passage
        lengths.add(len(run.split()))
    assert min(lengths) == 4
    assert max(lengths) == 12
    short = question_of(record, max_passage_words=3)
    assert "0 1 2" in short.candidates


def test_examples_are_those_of_the_record_unless_they_are_drawn():
    own = (Example("e1", ("x",), ("y",)), Example("e2", ("x",), ("y",)))
    record = ClassificationRecord("file:1", "t", ("a",), ("a", "b"), own)
    others = [ClassificationRecord("file:2", "other", ("b",), ("a", "b"))]
    assert question_of(record, others=others).examples == own
    counts, texts = set(), set()
    for seed in range(60):
        shown = question_of(
            record, seed, others, augment=AugmentConfig(max_examples=3, random_examples=0.5, drop_false_labels=0.5)
        ).examples
        counts.add(len(shown))
        texts |= {(example.text, bool(example.false_labels)) for example in shown}
    assert counts == {0, 1, 2, 3}
    assert texts == {(text, shown) for text in ("e1", "e2", "other") for shown in (True, False)}


def test_false_labels_stay_where_nothing_else_would_be_shown():
    examples = (Example("e1", ("x",), ("y",)), Example("e2", (), ("y",)))
    record = ClassificationRecord("file:1", "t", ("a",), ("a", "b"), examples)
    shown = question_of(record, augment=AugmentConfig(drop_false_labels=1)).examples
    assert shown == (Example("e1", ("x",)), Example("e2", (), ("y",)))


def test_a_record_is_never_its_own_example():
    record = ClassificationRecord("file:1", "t", ("a",), ("a", "b"))
    for seed in range(10):
        assert question_of(record, seed, augment=AugmentConfig(max_examples=3, random_examples=1)).examples == ()


def test_sources_of_both_kinds_mix(planner, ranking_file, tmp_path):
    (tmp_path / "labels.json").write_text(json.dumps(["brakes", "chain", "saddle"]))
    labels = write_lines(tmp_path / "train.jsonl", classification_records(4))
    stream = stream_of(
        planner,
        SourceConfig(path=ranking_file, kind="ranking"),
        SourceConfig(path=labels, kind="classification", losses=(LossConfig(name="focal"),)),
    )
    kinds = {stream[position].source for position in range(12)}
    assert kinds == {0, 1}
    assert stream.num_records == 17 + 4
