import json

import pytest
from mining_data import kill_after_lines

from gliclass_rerank.errors import DataError, InputError
from gliclass_rerank.learn.data.records import read_records
from gliclass_rerank.learn.data.teach import Teaching, check_source, teach
from gliclass_rerank.text_models.load import load_teacher
from gliclass_rerank.text_models.options import ModelOptions

# Teaches slowly, so that there is time to kill it.
SCRIPT = """
import sys, time
from pathlib import Path
from gliclass_rerank.text_models.load import load_teacher
from gliclass_rerank.text_models.options import ModelOptions
from gliclass_rerank.learn.data.teach import Teaching, teach

class Slow:
    is_logit = True
    def __init__(self, teacher):
        self.teacher = teacher
    def score(self, asks):
        time.sleep(0.2)
        return self.teacher.score(asks)

source, model = map(Path, sys.argv[1:])
teach(Teaching(source=source, teacher="noisy"), Slow(load_teacher(str(model), ModelOptions(threads=1))))
"""


def loaded(folder):
    return load_teacher(str(folder), ModelOptions(threads=1))


def shared_words(record):
    query = record.query.split()
    return tuple(
        sum(min(query.count(word), passage.split().count(word)) for word in set(query)) for passage in record.passages
    )


def test_scores_are_added_in_place_and_nothing_else_changes(records, cross_encoder):
    before = [json.loads(line) for line in records.read_text().splitlines()]
    report = teach(Teaching(source=records, teacher="counting"), loaded(cross_encoder))
    after = [json.loads(line) for line in records.read_text().splitlines()]
    for record in read_records(records):
        assert record.teacher_scores["counting"] == shared_words(record)
    for row in after:
        row.pop("teacher_scores")
    assert after == before
    assert report.num_records == 100
    assert report.num_pairs == sum(len(row["passages"]) for row in before)
    assert report.pairs_per_second > 0
    assert report.tokens_per_second > report.pairs_per_second
    assert list(records.parent.iterdir()) == [records]


def test_another_target_leaves_the_source_alone(records, cross_encoder, tmp_path):
    before = records.read_bytes()
    target = tmp_path / "scored.jsonl"
    teach(Teaching(source=records, teacher="counting", target=target), loaded(cross_encoder))
    assert records.read_bytes() == before
    assert all("counting" in record.teacher_scores for record in read_records(target))
    with pytest.raises(InputError, match="exists already"):
        teach(Teaching(source=records, teacher="counting", target=target), loaded(cross_encoder))


def test_a_name_that_is_taken_is_refused_unless_it_is_overwritten(records, cross_encoder, noisy_cross_encoder):
    teach(Teaching(source=records, teacher="counting"), loaded(cross_encoder))
    first = records.read_bytes()
    with pytest.raises(InputError, match="has scores of a teacher 'counting' already"):
        teach(Teaching(source=records, teacher="counting"), loaded(cross_encoder))
    teach(Teaching(source=records, teacher="second"), loaded(noisy_cross_encoder))
    assert set(next(read_records(records)).teacher_scores) == {"counting", "second"}
    teach(Teaching(source=records, teacher="second", overwrite=True), loaded(cross_encoder))
    record = next(read_records(records))
    assert record.teacher_scores["counting"] == record.teacher_scores["second"]
    assert records.read_bytes() != first


def test_a_killed_run_ends_with_the_file_of_an_unbroken_one(records, noisy_cross_encoder, tmp_path):
    # What this model says depends on the batch, so that other batches after the resumption would show.
    unbroken = tmp_path / "unbroken.jsonl"
    teach(Teaching(source=records, teacher="noisy", target=unbroken), loaded(noisy_cross_encoder))
    before = records.read_bytes()
    partial = records.with_name(f"{records.name}.partial")
    kill_after_lines(SCRIPT, [records, noisy_cross_encoder], partial, 32)
    assert records.read_bytes() == before
    lines = partial.read_bytes().splitlines(keepends=True)
    partial.write_bytes(b"".join(lines[:41]) + b'{"query": "ha')  # killed in the middle of a chunk and of a line
    report = teach(Teaching(source=records, teacher="noisy"), loaded(noisy_cross_encoder))
    assert report.num_resumed == 32
    assert records.read_bytes() == unbroken.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["records.jsonl", "unbroken.jsonl"]


def test_a_run_killed_before_the_last_step_only_takes_that_step(records, cross_encoder, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("gliclass_rerank.learn.data.partial.PartialFile.finish", lambda self: None)
        teach(Teaching(source=records, teacher="counting"), loaded(cross_encoder))
    report = teach(Teaching(source=records, teacher="counting"), loaded(cross_encoder))
    assert (report.num_resumed, report.num_pairs, report.pairs_per_second) == (100, 0, 0)
    assert all("counting" in record.teacher_scores for record in read_records(records))


def test_a_run_is_not_resumed_with_another_model_or_source(records, cross_encoder):
    class Interrupting:
        is_logit = True
        chunks = 0

        def score(self, asks):
            self.chunks += 1
            if self.chunks == 2:
                raise KeyboardInterrupt
            return loaded(cross_encoder).score(asks)

    with pytest.raises(KeyboardInterrupt):
        teach(Teaching(source=records, teacher="counting", model={"max_tokens": 64}), Interrupting())
    with pytest.raises(InputError, match=r"had `model` \{'max_tokens': 64\}, now it is \{'max_tokens': 32\}"):
        teach(Teaching(source=records, teacher="counting", model={"max_tokens": 32}), loaded(cross_encoder))
    records.write_text(records.read_text() + records.read_text().splitlines()[0] + "\n")
    with pytest.raises(InputError, match="had `num_records` 100, now it is 101"):
        teach(Teaching(source=records, teacher="counting", model={"max_tokens": 64}), loaded(cross_encoder))


def test_a_malformed_line_is_found_before_anything_is_scored(records):
    records.write_text(records.read_text() + '{"query": "q", "passages": ["a"], "grades": []}\n')
    with pytest.raises(DataError, match=r"records\.jsonl:101: `grades` must hold one entry"):
        check_source(Teaching(source=records, teacher="counting"))
    assert list(records.parent.iterdir()) == [records]


def test_there_must_be_records_and_a_name(tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    with pytest.raises(DataError, match="there are no records to score"):
        check_source(Teaching(source=empty, teacher="counting"))
    with pytest.raises(DataError, match="cannot be read"):
        check_source(Teaching(source=tmp_path / "absent.jsonl", teacher="counting"))
    with pytest.raises(InputError, match="a teacher's name must not be blank"):
        Teaching(source=empty, teacher=" ")
    with pytest.raises(InputError, match=r"must end in \.jsonl"):
        check_source(Teaching(source=tmp_path / "zipped.jsonl.gz", teacher="counting"))
