import gzip
import json

import pytest

from gliclass_rerank.errors import DataError, InputError
from gliclass_rerank.learn.evaluation.collection import load_collection


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def candidate_rows(lists):
    return jsonl({"query_id": query_id, "doc_ids": doc_ids} for query_id, doc_ids in lists.items())


@pytest.fixture
def folder(tmp_path):
    """Three queries: q1 and q2 have a positive judgment and candidates, q3 only a grade 0."""
    queries = [
        {"id": "q1", "text": "slow puncture"},
        {"id": "q3", "text": "bells"},
        {"id": "q2", "text": "rust"},
    ]
    corpus = [
        {"id": "d1", "text": "Look for the thorn."},
        {"id": "d2", "title": "Rust", "text": "Salt eats steel."},
        {"id": "d3", "title": "", "text": "Ring it."},
        {"id": "d4", "text": "No list names this one."},
    ]
    (tmp_path / "queries.jsonl").write_text(jsonl(queries))
    (tmp_path / "corpus.jsonl").write_text(jsonl(corpus))
    (tmp_path / "qrels.test.tsv").write_text("q1\td1\t2\nq1\td9\t1\nq1\td3\t0\nq3\td3\t0\nq2\td2\t1\n")
    (tmp_path / "candidates.jsonl").write_text(candidate_rows({"q1": ["d3", "d1"], "q2": ["d2", "d3"], "q3": ["d3"]}))
    return tmp_path


def test_keeps_queries_with_a_positive_judgment_in_file_order(folder):
    collection = load_collection(folder, "test")
    assert list(collection.queries.items()) == [("q1", "slow puncture"), ("q2", "rust")]
    assert collection.candidates == {"q1": ("d3", "d1"), "q2": ("d2", "d3")}
    assert collection.num_candidates == 4
    assert collection.name == folder.name


def test_keeps_all_judgments_of_a_kept_query(folder):
    assert load_collection(folder, "test").qrels == {"q1": {"d1": 2, "d9": 1, "d3": 0}, "q2": {"d2": 1}}


def test_joins_title_and_text_and_keeps_candidates_only(folder):
    assert load_collection(folder, "test").passages == {
        "d1": "Look for the thorn.",
        "d2": "Rust Salt eats steel.",
        "d3": "Ring it.",
    }


@pytest.mark.parametrize("name", ["queries.jsonl", "corpus.jsonl", "qrels.test.tsv", "candidates.jsonl"])
def test_a_gzipped_file_reads_the_same(folder, name):
    plain = load_collection(folder, "test")
    (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
    (folder / name).unlink()
    assert load_collection(folder, "test") == plain


def test_windows_line_ends_and_a_byte_order_mark_change_nothing(folder):
    plain = load_collection(folder, "test")
    for path in folder.iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert load_collection(folder, "test") == plain


def test_a_query_without_candidates_is_left_out(folder):
    (folder / "candidates.jsonl").write_text(candidate_rows({"q1": [], "q2": ["d2"]}))
    assert list(load_collection(folder, "test").queries) == ["q2"]


def test_limit_counts_the_queries_that_are_kept(folder):
    (folder / "qrels.test.tsv").write_text("q3\td3\t1\nq2\td2\t1\n")
    assert list(load_collection(folder, "test", limit=1).queries) == ["q3"]
    limited = load_collection(folder, "test", limit=2)
    assert list(limited.queries) == ["q3", "q2"]
    assert set(load_collection(folder, "test", limit=1).passages) == {"d3"}


def test_limit_below_one_is_refused(folder):
    with pytest.raises(InputError, match=r"`limit` must be at least 1, got 0"):
        load_collection(folder, "test", limit=0)


def test_bm25_is_used_when_the_own_list_is_missing(folder):
    (folder / "candidates.jsonl").unlink()
    (folder / "bm25_top100.test.jsonl").write_text(candidate_rows({"q1": ["d1"]}))
    assert load_collection(folder, "test").candidates == {"q1": ("d1",)}


def test_bm25_is_used_when_the_own_list_has_no_query_of_the_split(folder):
    (folder / "qrels.dev.tsv").write_text("q3\td3\t1\n")
    (folder / "candidates.jsonl").write_text(candidate_rows({"q1": ["d3"]}))
    (folder / "bm25_top100.dev.jsonl").write_text(candidate_rows({"q3": ["d1", "d3"]}))
    assert load_collection(folder, "dev").candidates == {"q3": ("d1", "d3")}


def test_the_own_list_wins_over_bm25(folder):
    (folder / "bm25_top100.test.jsonl").write_text(candidate_rows({"q1": ["d1"]}))
    assert load_collection(folder, "test").candidates["q1"] == ("d3", "d1")


def test_other_judgments_and_candidates_are_found_in_the_folder_or_by_path(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "lists.jsonl"
    elsewhere.write_text(candidate_rows({"q3": ["d1"]}))
    (folder / "qrels_full.tsv").write_text("q3\td3\t1\n")
    collection = load_collection(folder, "any", qrels="qrels_full.tsv", candidates=elsewhere)
    assert collection.qrels == {"q3": {"d3": 1}}
    assert collection.candidates == {"q3": ("d1",)}


def test_an_unknown_split_lists_the_known_ones(folder):
    (folder / "qrels.dev.tsv.gz").write_bytes(gzip.compress(b"q1\td1\t1\n"))
    with pytest.raises(DataError, match=r"no split 'train'; it has `dev`, `test`"):
        load_collection(folder, "train")


def test_a_folder_without_judgments_says_so(folder):
    (folder / "qrels.test.tsv").unlink()
    with pytest.raises(DataError, match=r"no split 'test'; it has no qrels.<split>.tsv"):
        load_collection(folder, "test")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: no such folder"):
        load_collection(tmp_path / "nowhere", "test")


@pytest.mark.parametrize("name", ["queries.jsonl", "corpus.jsonl"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"{name}: no such file, plain or .gz"):
        load_collection(folder, "test")


@pytest.mark.parametrize("option", ["qrels", "candidates"])
def test_a_missing_optional_file_is_named(folder, option):
    with pytest.raises(DataError, match=r"mistyped: no such file, plain or .gz"):
        load_collection(folder, "test", **{option: "mistyped"})


def test_a_split_without_candidates_gets_those_that_bm25_finds(folder):
    (folder / "candidates.jsonl").write_text(candidate_rows({"q3": ["d1"]}))  # of queries of another split
    (folder / "queries.jsonl").write_text(
        jsonl([{"id": "q2", "text": "steel that rusts"}, {"id": "q1", "text": "why?"}])
    )

    collection = load_collection(folder, "test")

    assert not collection.has_own_candidates
    assert collection.candidates == {"q2": ("d2",)}  # no word of q1 is in the corpus
    assert list(collection.queries) == list(collection.qrels) == ["q2"]
    assert collection.passages == {"d2": "Rust Salt eats steel."}


@pytest.mark.parametrize("texts", [["", ""], ["the", "of"], []])
def test_a_corpus_without_words_has_no_candidates(folder, texts):
    (folder / "candidates.jsonl").unlink()
    (folder / "corpus.jsonl").write_text(jsonl({"id": f"d{number}", "text": text} for number, text in enumerate(texts)))

    with pytest.raises(DataError, match="no query has both a positive judgment and candidates in the corpus"):
        load_collection(folder, "test")


def beir(folder):
    """The same collection as BEIR writes it."""
    for name in ("queries.jsonl", "corpus.jsonl"):
        rows = map(json.loads, (folder / name).read_text().splitlines())
        (folder / name).write_text(jsonl({"_id": row.pop("id"), **row, "metadata": {}} for row in rows))
    (folder / "qrels").mkdir()
    judgments = (folder / "qrels.test.tsv").read_text()
    (folder / "qrels/test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judgments}")
    (folder / "qrels.test.tsv").unlink()


def test_a_beir_folder_reads_the_same(folder):
    plain = load_collection(folder, "test")
    beir(folder)

    assert load_collection(folder, "test") == plain
    with pytest.raises(DataError, match="no split 'dev'; it has `test`"):
        load_collection(folder, "dev")


def test_a_query_that_is_a_document_too_is_not_its_own_candidate(folder):
    beir(folder)
    (folder / "candidates.jsonl").unlink()
    documents = [{"_id": "q1", "text": "slow puncture"}, {"_id": "d1", "text": "A puncture."}]
    (folder / "corpus.jsonl").write_text(jsonl(documents))

    assert load_collection(folder, "test", limit=1).candidates == {"q1": ("d1",)}


def test_a_header_elsewhere_or_of_other_names_is_a_malformed_row(folder):
    (folder / "qrels.test.tsv").write_text("query\tdocument\tgrade\nq1\td1\t1\n")

    with pytest.raises(DataError, match=r"qrels.test.tsv:1: the grade must be a whole number, got 'grade'"):
        load_collection(folder, "test")


def test_no_query_left_is_an_error(folder):
    (folder / "other.jsonl").write_text(candidate_rows({"q7": ["d1"]}))
    with pytest.raises(DataError, match=r"no query has both a positive judgment and candidates in other.jsonl"):
        load_collection(folder, "test", candidates="other.jsonl")


def test_a_candidate_outside_the_corpus_is_named(folder):
    (folder / "candidates.jsonl").write_text(candidate_rows({"q1": ["d1", "d8"]}))
    with pytest.raises(DataError, match=r"candidates.jsonl: candidates must be in corpus.jsonl, which lacks `d8`"):
        load_collection(folder, "test")


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("queries.jsonl", '{"id": "q1"', r"queries.jsonl:1: not JSON: .* at column \d+"),
        ("queries.jsonl", '["q1"]', r"queries.jsonl:1: must be a JSON object, got \['q1'\]"),
        ("queries.jsonl", '{"id": 1, "text": "a"}', "queries.jsonl:1: `id` must be a string, got 1"),
        ("queries.jsonl", '{"id": "q1"}', "queries.jsonl:1: `text` must be a string, got None"),
        (
            "queries.jsonl",
            '{"id": "q1", "text": "a"}\n\n{"id": "q1", "text": "b"}',
            ":3: a second entry .* `q1`",
        ),
        (
            "corpus.jsonl",
            '{"id": "d1", "title": 4, "text": ""}',
            "corpus.jsonl:1: `title` must be a string, got 4",
        ),
        ("qrels.test.tsv", "q1 d1 1", "qrels.test.tsv:1: must have 3 tab-separated columns, got 1"),
        ("qrels.test.tsv", "q1\td1\tgood", "qrels.test.tsv:1: the grade must be a whole number, got 'good'"),
        (
            "candidates.jsonl",
            '{"query_id": "q1", "doc_ids": "d1"}',
            ":1: `doc_ids` must be a list of strings",
        ),
        ("candidates.jsonl", '{"query_id": "q1", "doc_ids": [1]}', r"must be a list of strings, got \[1\]"),
        (
            "candidates.jsonl",
            '{"query_id": "q1", "doc_ids": ["d1", "d3", "d1"]}',
            "candidates.jsonl:1: candidates must differ, got `d1` more than once",
        ),
        (
            "candidates.jsonl",
            '{"query_id": "q1", "doc_ids": []}\n{"query_id": "q1", "doc_ids": []}',
            "candidates.jsonl:2: a second list for the query `q1`",
        ),
    ],
)
def test_a_malformed_line_is_reported_with_file_and_line(folder, name, line, message):
    (folder / name).write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        load_collection(folder, "test")


def test_bytes_that_are_not_utf_8_are_reported_with_their_line(folder):
    (folder / "queries.jsonl").write_bytes(b'{"id": "q1", "text": "a"}\n{"id": "q2", "text": "\xff"}\n')
    with pytest.raises(DataError, match=r"queries.jsonl:2: not UTF-8 at byte 23 of the line"):
        load_collection(folder, "test")


def test_a_damaged_gzip_file_is_reported(folder):
    packed = gzip.compress((folder / "corpus.jsonl").read_bytes())
    (folder / "corpus.jsonl").unlink()
    (folder / "corpus.jsonl.gz").write_bytes(packed[:-9])
    with pytest.raises(DataError, match=r"corpus.jsonl.gz: cannot be read"):
        load_collection(folder, "test")
    (folder / "corpus.jsonl.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match=r"corpus.jsonl.gz: cannot be read: Not a gzipped file"):
        load_collection(folder, "test")
