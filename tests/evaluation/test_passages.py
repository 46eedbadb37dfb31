import gzip
import io
import json
import os
from pathlib import Path

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
    assert load_passages(path) == (
        Passage(1, "plain", rows[0]),
        Passage(2, "Title and text", rows[1]),
        Passage(3, "", rows[2]),
    )


def test_gzipped_passages_read_the_same(tmp_path):
    path = tmp_path / "passages.txt.gz"
    path.write_bytes(gzip.compress("é\nb\n".encode()))
    assert load_passages(path) == (Passage(1, "é"), Passage(2, "b"))


@pytest.fixture
def stdin(monkeypatch):
    def put(text):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    return put


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_standard_input_holds_objects_if_it_begins_with_one(stdin, name):
    stdin('\n{"text": "a"}\n{"title": "b", "text": "c"}\n')
    assert [(each.line, each.text) for each in load_passages(Path(name))] == [(2, "a"), (3, "b c")]
    stdin("a\n{b\n")
    assert load_passages(Path(name)) == (Passage(1, "a"), Passage(2, "{b"))


def test_standard_input_is_read_once(stdin):
    stdin("a\n")
    assert load_passages(Path("-")) == (Passage(1, "a"),)
    with pytest.raises(DataError, match="-: standard input can be read once, so only one option may name it"):
        load_passages(Path("/dev/stdin"))


def test_an_error_in_standard_input_has_its_line(stdin):
    stdin('{"text": "a"}\n{"text"\n')
    with pytest.raises(DataError, match="-:2: not JSON"):
        load_passages(Path("-"))


def test_an_open_descriptor_is_read():
    read, write = os.pipe()
    os.write(write, b"a\nb\n")
    os.close(write)
    assert [each.text for each in load_passages(Path(f"/dev/fd/{read}"))] == ["a", "b"]
    os.close(read)


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
