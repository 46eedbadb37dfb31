import gzip

import pytest
from mining_data import write_collection, write_jsonl

from gliclass_rerank.errors import DataError, InputError
from gliclass_rerank.learn.data.passage_pool import load_pool
from gliclass_rerank.learn.data.questions import Judged, Sources, load_queries


def load(sources, *, limit=None, seed=0):
    pool = load_pool(sources.folders, max_words=None)
    return {query.id: query for query in load_queries(sources, pool, limit=limit, seed=seed)}


def test_judged_queries_carry_grades_by_position(collection):
    (collection / "qrels.train.tsv").write_text("q0\td0\t2\nq0\td5\t0\nq1\td1\t0\nq2\tabsent\t1\n")
    queries = load(Sources((Judged(collection),)))
    assert list(queries) == ["made/q0"]  # the others have no relevant passage here
    assert queries["made/q0"].grades == {0: 2, 5: 0}
    assert queries["made/q0"].positives == [0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("asked.txt", "how to patch a tube\n\n wax a chain\n"),
        ("asked.tsv", "how to patch a tube\tmore\n wax a chain\t1\n"),
        ("asked.jsonl", '{"query": "how to patch a tube"}\n{"text": "wax a chain"}\n'),
    ],
)
def test_files_of_questions_are_read_plain_and_gzipped(collection, tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    zipped = tmp_path / "zipped" / f"{name}.gz"
    zipped.parent.mkdir()
    zipped.write_bytes(gzip.compress(text.encode()))
    for source in (path, zipped):
        queries = load(Sources(corpora=(collection,), questions=(source,)))
        assert sorted(query.text for query in queries.values()) == ["how to patch a tube", "wax a chain"]
        assert all(not query.grades for query in queries.values())
        assert {query_id.partition("/")[0] for query_id in queries} == {"asked"}


def test_equal_queries_are_one_with_the_judgments_of_all(collection, tmp_path):
    write_jsonl(collection / "queries.jsonl", [{"id": "q0", "text": "Bent rim"}, {"id": "q1", "text": "bent  RIM"}])
    (collection / "qrels.train.tsv").write_text("q0\td0\t1\nq1\td1\t2\nq1\td0\t0\n")
    questions = tmp_path / "asked.txt"
    questions.write_text("bent rim\n")
    queries = load(Sources((Judged(collection),), questions=(questions,)))
    assert list(queries) == ["made/q0"]
    assert queries["made/q0"].grades == {0: 1, 1: 2}


def test_samples_and_order_follow_the_seed(collection, tmp_path):
    other = write_collection(tmp_path / "other", num_queries=5, seed=8)
    sources = Sources((Judged(collection), Judged(other)))
    first = load(sources, limit=7, seed=1)
    assert list(first) == list(load(sources, limit=7, seed=1))
    assert set(first) != set(load(sources, limit=7, seed=2))
    assert sum(query_id.startswith("made/") for query_id in first) == 7
    assert sum(query_id.startswith("other/") for query_id in first) == 5


def test_without_any_source_of_queries_there_is_nothing_to_mine(collection):
    with pytest.raises(InputError, match="mining needs queries"):
        Sources(corpora=(collection,))


def test_sources_must_differ_in_name(collection, tmp_path):
    path = tmp_path / "made.txt"
    path.write_text("a question\n")
    with pytest.raises(InputError, match="sources of queries must differ in name, got a second `made`"):
        load(Sources((Judged(collection),), questions=(path,)))


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("qrels.train.tsv", "q0\td0\t1\nq0\td1\tbest\n", r"qrels\.train\.tsv:2: the grade must be a whole number"),
        ("qrels.train.tsv", "q0 d0 1\n", r"qrels\.train\.tsv:1: must have 3 tab-separated columns, got 1"),
        ("queries.jsonl", '{"id": "q0", "text": "a"}\n' * 2, r"queries\.jsonl:2: a second entry with the id `q0`"),
        ("queries.jsonl", '{"id": "q0"}\n', r"queries\.jsonl:1: `text` must be a string"),
        ("queries.jsonl", "nonsense\n", r"queries\.jsonl:1: not JSON"),
        ("queries.jsonl", "", "there are no queries left"),
    ],
)
def test_errors_name_file_and_line(collection, file, text, message):
    (collection / file).write_text(text)
    with pytest.raises(DataError, match=message):
        load(Sources((Judged(collection),)))


def test_a_missing_split_and_an_unknown_kind_of_file_are_refused(collection, tmp_path):
    with pytest.raises(DataError, match="made: no split 'dev'; it has `train`"):
        load(Sources((Judged(collection, "dev"),)))
    path = tmp_path / "asked.csv"
    path.write_text("a question\n")
    with pytest.raises(DataError, match=r"must end in \.jsonl, \.tsv, \.txt"):
        load(Sources(corpora=(collection,), questions=(path,)))
