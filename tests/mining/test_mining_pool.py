import gzip
import json

import pytest
from mining_data import write_jsonl

from gliclass_rerank.errors import DataError, InputError
from gliclass_rerank.learn.data.passage_pool import cut_words, load_pool


@pytest.fixture
def folders(tmp_path):
    corpora = {
        "one": [
            {"id": "a", "title": "Rust", "text": "Salt eats steel."},
            {"id": "b", "text": "Ring  the\nbell."},
            {"id": "c", "text": "   "},
        ],
        "two": [
            {"id": "a", "text": "ring the BELL."},
            {"id": "b", "text": "Look for the thorn."},
            {"id": "c", "text": "\uff32\uff49\uff4e\uff47 the bell."},  # full-width letters
        ],
    }
    for name, rows in corpora.items():
        (tmp_path / name).mkdir()
        write_jsonl(tmp_path / name / "corpus.jsonl", rows)
    return [tmp_path / name for name in corpora]


def test_corpora_are_joined_and_every_text_is_there_once(folders):
    pool = load_pool(folders, max_words=None)
    assert pool.texts == ("Rust Salt eats steel.", "Ring  the\nbell.", "Look for the thorn.")
    assert pool.ids == ("one/a", "one/b", "two/b")
    assert pool.index_of == {"one/a": 0, "one/b": 1, "two/a": 1, "two/b": 2, "two/c": 1}
    assert pool.num_documents == 6


def test_passages_are_cut_before_they_are_compared(folders):
    pool = load_pool(folders, max_words=2, titles=False)
    assert pool.texts == ("Salt eats", "Ring  the", "Look for")


def test_a_gzipped_corpus_reads_the_same(folders):
    plain = load_pool(folders, max_words=None)
    path = folders[0] / "corpus.jsonl"
    (folders[0] / "corpus.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert load_pool(folders, max_words=None) == plain


def test_cutting_keeps_spacing_and_counts_words():
    assert cut_words(" a\tb\n c ", 2) == " a\tb"
    assert cut_words("a b", 2) == "a b"
    assert cut_words("a b", 7) == "a b"
    assert cut_words("a b", None) == "a b"


def test_errors_name_file_and_line(folders):
    path = folders[1] / "corpus.jsonl"
    path.write_text(path.read_text() + json.dumps({"id": "b", "text": "again"}) + "\n")
    with pytest.raises(DataError, match=r"two/corpus\.jsonl:4: a second entry with the id `b`"):
        load_pool(folders, max_words=None)
    path.write_text('{"id": "a", "text": "\\ud800"}\n')
    with pytest.raises(DataError, match=r"two/corpus\.jsonl:1: text must be valid Unicode"):
        load_pool(folders, max_words=None)


def test_folders_must_exist_differ_in_name_and_hold_passages(folders, tmp_path):
    twin = tmp_path / "other" / "one"
    twin.mkdir(parents=True)
    with pytest.raises(InputError, match="collections must differ in name"):
        load_pool([folders[0], twin], max_words=None)
    with pytest.raises(DataError, match=r"corpus\.jsonl: no such file, plain or \.gz"):
        load_pool([twin], max_words=None)
    with pytest.raises(DataError, match="no such folder"):
        load_pool([tmp_path / "absent"], max_words=None)
    (twin / "corpus.jsonl").write_text("")
    with pytest.raises(DataError, match="no passages to search"):
        load_pool([twin], max_words=None)
    with pytest.raises(DataError, match="no passages to search"):
        load_pool([], max_words=None)


def test_the_same_folder_given_twice_counts_once(folders):
    assert load_pool([*folders, folders[0]], max_words=None) == load_pool(folders, max_words=None)
