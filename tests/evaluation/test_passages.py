import gzip
import json

import pytest

from gliclass_rerank.errors import DataError
from gliclass_rerank.learn.evaluation.passages import Passage, load_passages


def test_a_text_file_holds_one_passage_per_line_and_blank_lines_are_skipped(tmp_path):
    path = tmp_path / "passages.txt"
    path.write_text("first\n\n   \n  third, indented \nwithout a line end")
    assert load_passages(path) == (
        Passage(1, "first"),
        Passage(4, "third, indented"),
        Passage(5, "without a line end"),
    )


def test_a_jsonl_file_holds_a_text_and_perhaps_a_title_per_line(tmp_path):
    path = tmp_path / "passages.jsonl"
    rows = [{"text": "plain", "id": 7}, {"title": "Title", "text": "and text"}, {"title": None, "text": ""}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert load_passages(path) == (Passage(1, "plain"), Passage(2, "Title and text"), Passage(3, ""))


def test_gzipped_passages_read_the_same(tmp_path):
    path = tmp_path / "passages.txt.gz"
    path.write_bytes(gzip.compress("é\nb\n".encode()))
    assert load_passages(path) == (Passage(1, "é"), Passage(2, "b"))


def test_other_kinds_of_file_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"passages.csv: .* must end in .jsonl or .txt"):
        load_passages(tmp_path / "passages.csv")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"absent.txt: cannot be read: No such file or directory"):
        load_passages(tmp_path / "absent.txt")


def test_a_line_without_text_is_named(tmp_path):
    path = tmp_path / "passages.jsonl"
    path.write_text('{"text": "a"}\n{"body": "b"}\n')
    with pytest.raises(DataError, match=r"passages.jsonl:2: `text` must be a string, got None"):
        load_passages(path)
