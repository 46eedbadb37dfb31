import gzip
import json
import math
import re

import pytest
from training_data import classification_records, ranking_records, write_lines

from gliclass_rerank.errors import DataError
from gliclass_rerank.learn.training.source_config import LossConfig, SourceConfig
from gliclass_rerank.learn.training.sources import data_files, load_source, open_classification, open_ranking
from gliclass_rerank.types import Example

GOOD = {"query": "q", "passages": ["a", "b"], "grades": [1, 0]}


def read_ranking(tmp_path, record):
    return open_ranking(write_lines(tmp_path / "data.jsonl", [record]))[0]


def read_classification(tmp_path, record, **options):
    path = write_lines(tmp_path / "data.jsonl", [record])
    return open_classification(SourceConfig(path=path, kind="classification", **options))[0]


def test_a_record_holds_passages_grades_scores_and_examples(tmp_path):
    fields = {
        "query": "loose chain",
        "passages": ["a", "b", "c"],
        "grades": [2, None, 0.5],
        "teacher_scores": {"t": [1, 2.5, -3]},
        "examples": [{"text": "e", "labels": ["x"], "false_labels": ["y"]}],
        "note": "kept by nobody",
    }
    record = read_ranking(tmp_path, fields)
    assert record.passages == ("a", "b", "c")
    assert record.grades[0] == 2
    assert math.isnan(record.grades[1])
    assert record.teacher_scores == {"t": (1.0, 2.5, -3.0)}
    assert record.examples == (Example("e", ("x",), ("y",)),)
    assert record.place.endswith("data.jsonl:1")


def test_positives_and_negatives_are_a_short_form(tmp_path):
    record = read_ranking(tmp_path, {"query": "q", "positives": ["a"], "negatives": ["b", "c"]})
    assert record.passages == ("a", "b", "c")
    assert record.grades == (1, 0, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query": 3}, "`query` must be a string, got 3"),
        ({"query": "  "}, "`query` must not be blank, got '  '"),
        ({"query": "\ud800"}, "`query` must be valid Unicode, got '\\ud800' at 0"),
        ({"passages": "a"}, "`passages` must be a list of strings, got 'a'"),
        ({"passages": ["a", 2]}, "`passages` must be a list of strings, got ['a', 2]"),
        ({"grades": [1]}, "`grades` must have one number for each of the 2 passages, got 1"),
        ({"grades": [1, "high"]}, "`grades` must hold finite numbers, got 'high'"),
        ({"grades": [1, True]}, "`grades` must hold finite numbers, got True"),
        ({"grades": "no"}, "`grades` must be a list of numbers, got 'no'"),
        ({"grades": [None, None]}, "nothing to learn: no passage has a grade, and there are no teacher scores"),
        ({"teacher_scores": [1, 2]}, "`teacher_scores` must map names to lists, got [1, 2]"),
        ({"teacher_scores": {"t": [1]}}, "`teacher_scores.t` must have one number for each of the 2 passages, got 1"),
        ({"teacher_scores": {"t": [1, None]}}, "`teacher_scores.t` must hold finite numbers, got None"),
        ({"teacher_scores": {"t": [1, float("nan")]}}, "`teacher_scores.t` must hold finite numbers, got nan"),
        ({"positives": ["a"]}, "`passages` goes with `grades`, not with `positives`"),
        ({"examples": {"text": "e"}}, "`examples` must be a list, got {'text': 'e'}"),
        (
            {"examples": [{"text": "e", "labels": ["x"]}, {"labels": ["x"]}]},
            "`examples[1]`: an example needs the key `text`, got the keys ['labels']",
        ),
        ({"examples": ["e"]}, "`examples[0]`: an example must be an `Example` or a mapping, got 'e'"),
        ({"examples": [{"text": " "}]}, "`examples[0]`: an example's `text` must not be blank"),
        ({"examples": [{"text": "\ud800"}]}, "`examples[0]`: an example's `text` must be valid Unicode"),
        ({"examples": [{"text": "e", "labels": None}]}, "`examples[0]`: `examples.true_labels` must be a list of"),
        ({"examples": [{"text": "e", "false_labels": [1]}]}, "`examples[0]`: `examples.false_labels[0]` must be a st"),
        ({"passages": [], "grades": []}, "nothing to learn"),
    ],
)
def test_a_malformed_ranking_record_is_named_by_file_and_line(tmp_path, changes, message):
    path = write_lines(tmp_path / "data.jsonl", [GOOD, {**GOOD, **changes}])
    with pytest.raises(DataError, match=f"^{re.escape(f'{path}:2: {message}')}"):
        open_ranking(path)


def test_a_short_form_needs_both_lists(tmp_path):
    with pytest.raises(DataError, match=re.escape("`negatives` must be a list of strings, got None")):
        read_ranking(tmp_path, {"query": "q", "positives": ["a"]})
    with pytest.raises(DataError, match="a query needs at least one passage, got none"):
        read_ranking(tmp_path, {"query": "q", "positives": [], "negatives": []})


def test_a_line_that_is_no_json_is_named(tmp_path):
    path = write_lines(tmp_path / "data.jsonl", [GOOD])
    path.write_text(path.read_text() + "\n{oops\n")
    with pytest.raises(DataError, match=re.escape(f"{path}:3: not JSON")):
        open_ranking(path)


def test_an_empty_or_missing_file_is_refused(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match=re.escape("empty.jsonl: holds no records")):
        open_ranking(tmp_path / "empty.jsonl")
    with pytest.raises(DataError, match=re.escape("absent.jsonl: no such file, plain or .gz")):
        open_ranking(tmp_path / "absent.jsonl")


@pytest.mark.parametrize("zipped", [False, True])
def test_records_are_found_where_they_lie(tmp_path, zipped):
    lines = [json.dumps({**GOOD, "query": query}, ensure_ascii=False) for query in ("eins", "zwölf", "日本", "last")]
    text = "\ufeff" + lines[0] + "\n\n" + lines[1] + "\r\n  \n" + lines[2] + "\n" + lines[3]
    if zipped:
        (tmp_path / "data.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    else:
        (tmp_path / "data.jsonl").write_bytes(text.encode())
    records = open_ranking(tmp_path / "data.jsonl")
    order = [2, 0, 3, 1, 2]
    assert [records[index].query for index in order] == ["日本", "eins", "last", "zwölf", "日本"]
    assert [records[index].place.rpartition(":")[2] for index in range(4)] == ["1", "3", "5", "6"]


def test_a_file_that_changes_under_a_run_is_noticed(tmp_path):
    path = write_lines(tmp_path / "data.jsonl", [GOOD, GOOD])
    records = open_ranking(path)
    path.write_text("x" * path.stat().st_size)
    with pytest.raises(DataError, match="the file has changed since it was checked"):
        records[1]


def test_a_teacher_that_a_loss_names_must_have_scored_every_record(tmp_path):
    path = write_lines(tmp_path / "data.jsonl", [*ranking_records(2), GOOD])
    source = SourceConfig(path=path, kind="ranking", losses=(LossConfig(name="kl", teachers=("oracle",)),))
    with pytest.raises(DataError, match=re.escape(f"{path}:3: a loss wants the scores of the teacher 'oracle'")):
        load_source(source, seed=0)


def test_grades_that_can_teach_nothing_are_refused_with_the_remedy(tmp_path):
    path = write_lines(tmp_path / "data.jsonl", [{**GOOD, "grades": [1, None]}] * 2)
    with pytest.raises(DataError, match="nothing to learn; `unjudged: negative` counts"):
        load_source(SourceConfig(path=path, kind="ranking"), seed=0)
    assert len(load_source(SourceConfig(path=path, kind="ranking", unjudged="negative"), seed=0)) == 2


def test_all_labels_come_from_the_record_else_the_config_else_the_file_beside(tmp_path):
    (tmp_path / "labels.json").write_text('["x", "z"]')
    record = {"text": "t", "labels": ["x"]}
    assert read_classification(tmp_path, {**record, "all_labels": ["x", "y", "y"]}).all_labels == ("x", "y")
    assert read_classification(tmp_path, record, labels=("w", "x")).all_labels == ("w", "x")
    assert read_classification(tmp_path, record).all_labels == ("x", "z")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"text": "t", "labels": ["x"]}, "`all_labels` is missing, and neither the config nor labels.json has a list"),
        ({"text": "t", "labels": ["x"], "all_labels": []}, "`all_labels` must hold at least one label, got none"),
        ({"text": "t", "labels": ["x"], "all_labels": ["y"]}, "labels must be among all labels, got `x`"),
        ({"text": "t", "labels": "x", "all_labels": ["x"]}, "`labels` must be a list of strings, got 'x'"),
        ({"text": "", "labels": [], "all_labels": ["x"]}, "`text` must not be blank, got ''"),
    ],
)
def test_a_malformed_classification_record_is_named_by_file_and_line(tmp_path, record, message):
    with pytest.raises(DataError, match=re.escape(f"data.jsonl:1: {message}")):
        read_classification(tmp_path, record)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ('{"x": 1}', "must be a JSON list of labels, got {'x': 1}"),
        ('["x", "x"]', "labels must differ, got `x` twice"),
    ],
)
def test_a_malformed_list_of_labels_is_named(tmp_path, text, message):
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(DataError, match=re.escape(f"labels.json: {message}")):
        read_classification(tmp_path, {"text": "t", "labels": []})


def test_a_folder_is_read_by_split(tmp_path):
    (tmp_path / "labels.json").write_text('["brakes", "chain", "saddle"]')
    write_lines(tmp_path / "train.jsonl", classification_records(5))
    (tmp_path / "dev.jsonl.gz").write_bytes(gzip.compress(json.dumps({"text": "t", "labels": []}).encode()))
    assert len(open_classification(SourceConfig(path=tmp_path, kind="classification"))) == 5
    dev = SourceConfig(path=tmp_path, kind="classification", split="dev")
    assert open_classification(dev)[0].labels == ()


def test_few_shots_are_a_seeded_choice_of_every_label(tmp_path):
    labels = ["brakes", "chain", "saddle"]
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    path = write_lines(tmp_path / "train.jsonl", classification_records(60))

    def chosen(seed):
        records = load_source(SourceConfig(path=path, kind="classification", shots=3), seed)
        return [(records[index].text, records[index].labels) for index in range(len(records))]

    assert chosen(0) == chosen(0)
    assert chosen(0) != chosen(1)
    assert sorted(label for _, (label,) in chosen(0)) == sorted(labels * 3)


def test_shots_beyond_what_there_is_take_all(tmp_path):
    path = write_lines(tmp_path / "train.jsonl", classification_records(4))
    source = SourceConfig(path=path, kind="classification", shots=9, labels=("brakes", "chain", "saddle"))
    assert len(load_source(source, 0)) == 4


def test_sizes_of_all_data_files_are_taken(tmp_path, ranking_file, dev_file):
    from training_data import tiny_run

    from gliclass_rerank.learn.training import DevConfig

    config = tiny_run(tmp_path, tmp_path, ranking_file, dev=(DevConfig(path=dev_file, kind="ranking"),))
    assert data_files(config) == {
        "0: ranking.jsonl": ranking_file.stat().st_size,
        "1: dev.jsonl": dev_file.stat().st_size,
    }
