import json
import re
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
from preparation_data import ENCODER, LABELS, classified, ranked, read_lines, write_lines

from gliclass_rerank.errors import ConfigError, DataError, InputError
from gliclass_rerank.examples.faiss_index import FaissIndex
from gliclass_rerank.learn.data.rac_data import RacData, make_rac_data
from gliclass_rerank.learn.data.statistics import count_examples
from gliclass_rerank.learn.training import SourceConfig
from gliclass_rerank.learn.training.sources import open_classification, open_ranking

PLAIN = {"random_share": 0.0, "drop_false_share": 0.0}


class Killed(BaseException):
    """Stands for a kill: no `except Exception` may catch it."""


def stopped_before_records(stage, total, done=0):
    if stage == "records":
        raise Killed
    return nullcontext(lambda count: None)


@contextmanager
def stopped_after_one_chunk(stage, total, done=0):
    def advance(count):
        if stage == "records":
            raise Killed

    yield advance


@pytest.fixture
def made(tmp_path):
    """Make a file of some records; returns its lines and the statistics."""

    def make(records, *, name="out.jsonl", encoder=ENCODER, **options):
        source = write_lines(tmp_path / "in.jsonl", records)
        statistics = make_rac_data(tmp_path / name, RacData(source=source, **options), encoder)
        return read_lines(tmp_path / name), statistics

    return make


def cosine(first, second):
    (one,), (other,) = ENCODER.encode([first]), ENCODER.encode([second])
    return float(one @ other)


def test_examples_are_the_most_similar_records_nearest_first(made):
    records = classified(30)
    lines, _ = made(records, min_examples=3, **PLAIN)
    texts = [record["text"] for record in records]
    for line in lines:
        others = sorted((text for text in texts if text != line["text"]), key=lambda text: -cosine(line["text"], text))
        assert [example["text"] for example in line["examples"]] == others[:3]
        for example in line["examples"]:
            assert example["similarity"] == pytest.approx(cosine(line["text"], example["text"]), abs=1e-6)
            assert example["true_labels"] == line["labels"]
            assert sorted([*example["true_labels"], *example["false_labels"]]) == sorted(LABELS)
            assert not example["is_random"]


def test_every_field_of_a_record_stays_and_lines_keep_their_order(made):
    records = classified(9)
    records[4]["examples"] = [{"text": "an old one", "true_labels": ["saddle"]}]
    lines, _ = made(records)
    assert [line["note"] for line in lines] == list(range(9))
    assert all(
        {**line, "examples": None} == {**record, "examples": None} for line, record in zip(lines, records, strict=True)
    )
    assert all(example["text"] != "an old one" for example in lines[4]["examples"])


def test_a_record_never_shows_its_own_text_however_it_is_written(made):
    records = classified(6)
    again = {**records[0], "text": f"  {records[0]['text'].upper()} "}
    lines, _ = made([*records, again, dict(records[0])], random_share=0.5, max_neighbours=6, max_examples=6)
    for line in lines:
        shown = [" ".join(example["text"].lower().split()) for example in line["examples"]]
        assert " ".join(line["text"].lower().split()) not in shown
        assert len(set(shown)) == len(shown), "nor one example twice"


def test_a_neighbour_must_be_similar_enough(made):
    lonely = {"text": "what is a quark", "labels": [], "all_labels": [*LABELS]}
    lines, statistics = made([*classified(8), lonely], **PLAIN)
    assert lines[-1]["examples"] == []
    assert all(example["similarity"] >= 0.5 for line in lines for example in line["examples"])
    assert statistics.num_with[0] == 1
    lines, _ = made([*classified(8), lonely], name="all.jsonl", min_similarity=-1.0, **PLAIN)
    assert lines[-1]["examples"]


def test_the_number_of_examples_is_drawn(made):
    lines, statistics = made(classified(60), **PLAIN)
    assert {len(line["examples"]) for line in lines} == {1, 2, 3}
    assert statistics.num_with[0] == 0
    assert sum(statistics.num_with) == 60
    lines, _ = made(classified(60), name="two.jsonl", min_examples=2, max_examples=2, **PLAIN)
    assert {len(line["examples"]) for line in lines} == {2}


def test_some_examples_are_random_records(made):
    _, statistics = made(classified(300), random_share=0.3)
    assert 0.2 < statistics.num_random / statistics.num_examples < 0.4
    assert statistics.mean_random_similarity < statistics.mean_similarity
    lines, statistics = made(classified(90), name="noise.jsonl", random_share=1.0)
    assert statistics.num_random == statistics.num_examples
    assert {example["true_labels"][0] for example in lines[0]["examples"] + lines[3]["examples"]} != {"brakes"}


def test_false_labels_are_dropped_only_beside_true_ones(made):
    records = [
        {**record, "labels": [] if number % 2 else record["labels"]} for number, record in enumerate(classified(60))
    ]
    lines, statistics = made(records, drop_false_share=1.0, random_share=0.0)
    examples = [example for line in lines for example in line["examples"]]
    assert all(bool(example["true_labels"]) != bool(example["false_labels"]) for example in examples)
    assert {bool(example["true_labels"]) for example in examples} == {True, False}
    assert statistics.num_without_false == statistics.num_true_labels
    lines, _ = made(classified(60), name="half.jsonl", drop_false_share=0.5)
    assert 0.3 < np.mean([not example["false_labels"] for line in lines for example in line["examples"]]) < 0.7


def test_a_sample_is_random_and_takes_neighbours_from_all_records(made):
    lines, statistics = made(classified(80), num_records=9, seed=1)
    numbers = [line["note"] for line in lines]
    assert len(numbers) == statistics.num_records == 9
    assert numbers == sorted(numbers)
    assert numbers != list(range(9))
    texts = {line["text"] for line in lines}
    assert any(example["text"] not in texts for line in lines for example in line["examples"])


def test_a_ranking_example_is_a_query_with_passages_of_either_sort(made):
    lines, _ = made(ranked(30), **PLAIN)
    seen = set()
    for line in lines:
        for example in line["examples"]:
            (true,), (false,) = example["true_labels"], example["false_labels"]
            seen |= {true.split()[0], false.split()[0]}
            assert example["text"].endswith(f" bike {true.split()[1]}")
            assert true.split()[1] == false.split()[1] != line["query"].split()[-1]
    assert seen == {"good", "better", "bad", "worse"}, "drawn, and never what nobody has judged"


def test_more_passages_and_unjudged_ones_are_shown_on_request(made):
    lines, _ = made(ranked(12), max_true=2, max_false=3, unjudged="negative", **PLAIN)
    for example in (example for line in lines for example in line["examples"]):
        assert sorted(text.split()[0] for text in example["true_labels"]) == ["better", "good"]
        assert sorted(text.split()[0] for text in example["false_labels"]) == ["bad", "unknown", "worse"]


def test_records_that_say_nothing_are_no_examples(made):
    unjudged = {"query": "brakes squeal when wet at night", "passages": ["a"], "teacher_scores": {"t": [1]}}
    lines, _ = made([*ranked(12), unjudged], min_similarity=-1.0, random_share=0.5)
    assert lines[-1]["examples"]
    assert all(example["text"] != unjudged["query"] for line in lines for example in line["examples"])
    with pytest.raises(DataError, match="no record says what is relevant or irrelevant, so none is an example"):
        made([unjudged], name="other.jsonl")


def test_an_example_that_would_show_nothing_is_left_out(made):
    records = [{**record, "labels": []} for record in classified(9)]
    lines, _ = made(records, max_false=0)
    assert all(line["examples"] == [] for line in lines)


def test_examples_may_come_from_another_file(made, tmp_path):
    pool = write_lines(tmp_path / "pool.jsonl", classified(20))
    lines, _ = made([{**record, "text": f"my {record['text']}"} for record in classified(7)], pool=pool)
    texts = {record["text"] for record in classified(20)}
    assert {example["text"] for line in lines for example in line["examples"]} <= texts
    assert all(line["examples"] for line in lines)


def test_what_is_made_of_a_folder_needs_no_list_of_labels_beside_it(tmp_path):
    (tmp_path / "labels.json").write_text(json.dumps(LABELS))
    records = [{key: value for key, value in record.items() if key != "all_labels"} for record in classified(12)]
    write_lines(tmp_path / "train.jsonl", records)
    (tmp_path / "made").mkdir()
    target = tmp_path / "made" / "out.jsonl"
    make_rac_data(target, RacData(source=tmp_path), ENCODER)
    read = open_classification(SourceConfig(path=target, kind="classification"))
    assert read[0].all_labels == LABELS
    assert read[0].examples


def test_training_reads_what_is_made_of_rankings(made, tmp_path):
    made(ranked(12))
    records = open_ranking(tmp_path / "out.jsonl")
    assert all(1 <= len(records[index].examples) <= 3 for index in range(12))


def test_the_seed_decides_everything(made, tmp_path):
    for name, seed in (("a.jsonl", 3), ("b.jsonl", 3), ("c.jsonl", 4)):
        made(classified(50), name=name, seed=seed)
    first, again, other = ((tmp_path / name).read_bytes() for name in ("a.jsonl", "b.jsonl", "c.jsonl"))
    assert first == again != other


def test_statistics_say_what_is_in_the_file(made, tmp_path):
    lines, statistics = made(classified(70))
    examples = [(line, example) for line in lines for example in line["examples"]]
    similar = [(line, example) for line, example in examples if not example["is_random"]]
    assert statistics == count_examples(tmp_path / "out.jsonl")
    assert statistics.num_with == [sum(len(line["examples"]) == number for line in lines) for number in range(4)]
    assert statistics.num_examples == len(examples)
    assert statistics.num_random == len(examples) - len(similar) > 0
    assert statistics.num_false_labels == sum(len(example["false_labels"]) for _, example in examples)
    assert statistics.num_agreeing == sum(example["true_labels"] == line["labels"] for line, example in similar)
    mean = np.mean([example["similarity"] for _, example in similar])
    assert statistics.mean_similarity == pytest.approx(mean, abs=1e-4)


def test_the_bundled_model_finds_what_means_the_same_and_an_interrupted_run_goes_on(tmp_path):
    pairs = [
        ("How do I get my money back?", "What is the way to obtain a refund?"),
        ("My card was stolen yesterday", "Somebody has taken my bank card"),
        ("The app crashes when I open it", "Your application quits at start-up"),
    ]
    records = [
        {"text": text, "labels": [str(number)], "all_labels": ["0", "1", "2"]}
        for number, pair in enumerate(pairs)
        for text in pair
    ]
    source = write_lines(tmp_path / "in.jsonl", records * 14)  # two chunks
    settings = RacData(source=source, max_neighbours=1, max_examples=1, min_similarity=0.3, random_share=0.2)

    with pytest.raises(Killed):
        make_rac_data(tmp_path / "parts.jsonl", settings, progress=stopped_after_one_chunk)
    make_rac_data(tmp_path / "parts.jsonl", settings)
    make_rac_data(tmp_path / "whole.jsonl", settings)
    assert (tmp_path / "parts.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    for line in read_lines(tmp_path / "whole.jsonl"):
        (example,) = line["examples"]
        assert example["is_random"] or example["true_labels"] == line["labels"]
        assert example["text"] != line["text"]


@pytest.mark.parametrize("backend", ["faiss", "faiss_hnsw"])
def test_faiss_finds_what_the_exact_search_finds(made, tmp_path, backend):
    pytest.importorskip("faiss")
    exact, _ = made(classified(400), name="exact.jsonl", backend="numpy")
    found, _ = made(classified(400), backend=backend)
    assert found == exact
    assert not (tmp_path / "out.jsonl.partial.scratch").exists()


def test_an_index_that_is_slow_to_build_is_found_again(tmp_path, monkeypatch):
    pytest.importorskip("faiss")
    source = write_lines(tmp_path / "in.jsonl", classified(200))
    settings = RacData(source=source, backend="faiss_hnsw")

    with pytest.raises(Killed):
        make_rac_data(tmp_path / "parts.jsonl", settings, ENCODER, progress=stopped_before_records)
    make_rac_data(tmp_path / "whole.jsonl", settings, ENCODER)
    monkeypatch.delattr(FaissIndex, "build")
    make_rac_data(tmp_path / "parts.jsonl", settings, ENCODER)
    assert (tmp_path / "parts.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_malformed_lines_are_refused_before_anything_is_encoded(tmp_path):
    class Refusing:
        fingerprint = "none"

        def encode(self, texts):
            raise AssertionError

    source = write_lines(tmp_path / "in.jsonl", [*classified(3), {"text": "t", "labels": ["x"], "all_labels": ["y"]}])
    with pytest.raises(DataError, match=re.escape(f"{source}:4: labels must be among all labels, got `x`")):
        make_rac_data(tmp_path / "out.jsonl", RacData(source=source), Refusing())
    write_lines(source, [{"words": "t"}])
    with pytest.raises(DataError, match=re.escape(f"{source}:1: a labelled record has a `query` or a `text`")):
        make_rac_data(tmp_path / "out.jsonl", RacData(source=source), Refusing())
    with pytest.raises(DataError, match="no such file"):
        make_rac_data(tmp_path / "out.jsonl", RacData(source=tmp_path / "absent.jsonl"), Refusing())
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_an_unfinished_run_with_other_settings_or_data_is_not_continued(tmp_path):
    source = write_lines(tmp_path / "in.jsonl", classified(5))

    with pytest.raises(Killed):
        make_rac_data(tmp_path / "out.jsonl", RacData(source=source), ENCODER, progress=stopped_before_records)
    with pytest.raises(InputError, match="had `seed` 0, now it is 1"):
        make_rac_data(tmp_path / "out.jsonl", RacData(source=source, seed=1), ENCODER)
    write_lines(source, classified(6))
    with pytest.raises(InputError, match=r"had `(source|pool)_bytes`"):
        make_rac_data(tmp_path / "out.jsonl", RacData(source=source), ENCODER)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_records": 0}, "`num_records` must be at least 1, got 0"),
        ({"max_false": -1}, "`max_false` must be at least 0, got -1"),
        ({"max_examples": 4}, "must ascend, and the last two be at least 1, got 1, 4 and 3"),
        ({"min_examples": 0, "max_examples": 0}, "must ascend, and the last two be at least 1, got 0, 0 and 3"),
        ({"min_similarity": 1.5}, "`min_similarity` must be between -1 and 1, got 1.5"),
        ({"random_share": -0.1}, "`random_share` must be between 0 and 1, got -0.1"),
        ({"drop_false_share": 2}, "`drop_false_share` must be between 0 and 1, got 2"),
        ({"kind": "pairs"}, "`kind` must be ranking or classification, got 'pairs'"),
        ({"unjudged": "positive"}, "`unjudged` must be ignore or negative, got 'positive'"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path, options, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        RacData(source=tmp_path, **options)


def test_an_unknown_backend_is_refused(made):
    with pytest.raises(ConfigError, match="`backend` must be one of"):
        made(classified(4), backend="annoy")
