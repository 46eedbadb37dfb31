import json

import pytest

from gliclass_rerank.errors import DataError
from gliclass_rerank.learn.data.records import RankingRecord, read_records

FULL = {
    "query_id": "q1",
    "query": "slow puncture",
    "passage_ids": ["d1", "d2"],
    "passages": ["Look for the thorn.", "Ring it. \u00e9\u4e2d"],
    "grades": [2, None],
    "teacher_scores": {"big": [3.25, -1.5]},
    "source": {"any": ["thing"]},
}


def test_a_record_reads_and_writes_without_loss(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(FULL) + "\n")
    (record,) = read_records(path)
    assert json.loads(record.to_line()) == FULL
    assert record.has_positive
    assert record.extra == {"source": {"any": ["thing"]}}


def test_optional_fields_may_be_absent_and_stay_absent(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text('{"query": "q", "passages": [], "grades": []}\n')
    (record,) = read_records(path)
    assert json.loads(record.to_line()) == {"query": "q", "passages": [], "grades": []}
    assert not record.has_positive


def test_scores_are_added_and_rounded_in_a_new_record():
    record = RankingRecord(query="q", passages=("a", "b"), grades=(None, 0), teacher_scores={"x": (1.0, 2.0)})
    scored = record.with_scores("y", [0.1234567, 5])
    assert scored.teacher_scores == {"x": (1.0, 2.0), "y": (0.12346, 5)}
    assert record.teacher_scores == {"x": (1.0, 2.0)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": "  "}, "`query` must not be blank"),
        ({"query": 3}, "`query` must be a string, got 3"),
        ({"query": "a\ud800"}, "text must be valid Unicode"),
        ({"passages": "text"}, "`passages` must be a list of strings"),
        ({"passages": ["a", "\udc00"]}, "text must be valid Unicode"),
        ({"grades": [1]}, "`grades` must hold one entry for each of the 2 passages, got 1"),
        ({"grades": [1, True]}, "`grades` must be a list of numbers and nulls, got True in it"),
        ({"grades": [1, float("nan")]}, "got nan in it"),
        ({"grades": None}, "`grades` must be a list of numbers and nulls, got None"),
        ({"passage_ids": ["d1"]}, "`passage_ids` must hold one entry for each of the 2 passages, got 1"),
        ({"query_id": 7}, "`query_id` must be a string, got 7"),
        ({"teacher_scores": [1, 2]}, "`teacher_scores` must be an object"),
        ({"teacher_scores": {"big": [1]}}, "`teacher_scores.big` must hold one entry for each of the 2 passages"),
        ({"teacher_scores": {"big": [1, None]}}, "`teacher_scores.big` must be a list of numbers, got None in it"),
    ],
)
def test_a_malformed_line_is_named_with_its_file(tmp_path, change, message):
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(FULL) + "\n" + json.dumps({**FULL, **change}) + "\n")
    with pytest.raises(DataError) as caught:
        list(read_records(path))
    assert str(caught.value).startswith(f"{path}:2: ")
    assert message in str(caught.value)
