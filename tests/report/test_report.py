"""The report: figures checked by hand, every form of input, and the file itself."""

import html.parser
import json
import math
from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoints import WORDS

from gliclass_rerank import Reranker
from gliclass_rerank.cli.app import main
from gliclass_rerank.errors import DataError
from gliclass_rerank.feedback import FeedbackLog
from gliclass_rerank.learn.evaluation.trec import read_run, write_run
from gliclass_rerank.learn.report.comparing import Reranked, bm25_run, bootstrap, gain, rerank_lists
from gliclass_rerank.learn.report.facts import compared
from gliclass_rerank.learn.report.judgements import logged_qrels
from gliclass_rerank.learn.report.texts import read_corpus, read_queries
from gliclass_rerank.learn.report.writing import verdict

QUERIES = {"q1": "chain slips", "q2": "brake squeal"}
CORPUS = {"d1": "oil the chain", "d2": "chain wax", "d3": "brake pad", "d4": "brake squeal & <b>grease</b>"}


def reranked(query_id, before, after, seconds=0.1):
    return Reranked(query_id, tuple(before), tuple(after), tuple(1 / (n + 1) for n in range(len(after))), seconds)


@pytest.fixture
def folder(tmp_path):
    lines = [json.dumps({"id": name, "text": text}) for name, text in CORPUS.items()]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    lines = [json.dumps({"id": name, "query": text}) for name, text in QUERIES.items()]
    (tmp_path / "queries.jsonl").write_text("\n".join(lines))
    return tmp_path


def run_report(folder, tiny_folders, *arguments):
    given = ["--queries", folder / "queries.jsonl", "--corpus", folder, "--out", folder / "report.html"]
    return main(["report", *map(str, [*given, "--model", tiny_folders["bert"], "--device", "cpu", *arguments])])


# --- figures


def test_lists_are_ranked_as_given_and_timed(tiny_folders):
    reranker = Reranker(tiny_folders["bert"], device="cpu")

    def rank(query, passages):
        return [(hit.index, hit.score) for hit in reranker.rank(query, passages)]

    run = {"q1": ("d3", "d1", "d2"), "q2": ()}
    (found,) = rerank_lists(QUERIES, CORPUS, run, rank)
    expected = reranker.rank(QUERIES["q1"], [CORPUS[name] for name in run["q1"]])
    assert found.after == tuple(run["q1"][hit.index] for hit in expected)
    assert found.scores == tuple(hit.score for hit in expected)
    assert found.seconds > 0


def test_movement_is_counted():
    one = reranked("q1", "abcdefghijkl", "lkbacdefghij")
    assert one.origins[:4] == (11, 10, 1, 0)
    assert one.overlap == 0.8
    assert reranked("q1", "ab", "ba").tau == -1
    assert reranked("q1", "abc", "abc").tau == 1
    assert reranked("q1", "a", "a").tau is None


def test_the_gain_is_paired_over_judged_queries():
    lists = [reranked("q1", ["d1", "d2"], ["d2", "d1"]), reranked("q2", ["d3", "d4"], ["d3", "d4"])]
    found = gain({"q1": {"d2": 1}, "q2": {"d3": 1}, "q3": {"d1": 1}, "q4": {"d1": 0}}, lists)
    second = 1 / math.log2(3)
    assert found.by_query == {"q1": (pytest.approx(second), 1.0), "q2": (1.0, 1.0)}
    assert found.difference.mean == pytest.approx((1 - second) / 2)
    assert gain({"q3": {"d1": 1}}, lists) is None


def test_the_interval_is_that_of_the_bootstrap():
    values = np.random.default_rng(3).normal(0.1, 1.0, 400)
    found = bootstrap(values)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(found.mean - half, abs=0.02)
    assert found.high == pytest.approx(found.mean + half, abs=0.02)
    assert bootstrap(values) == found
    assert bootstrap([0.5]) == bootstrap([0.5, 0.5])


@pytest.mark.parametrize(
    ("after", "kind", "words"),
    [(("d2", "d1"), "up", "Better: nDCG@10 goes"), (("d1", "d2"), "same", "No difference that 12 judged queries")],
)
def test_the_verdict_needs_an_interval_on_one_side(after, kind, words):
    names = [f"q{number}" for number in range(12)]
    lists = [reranked(name, ["d1", "d2"], after) for name in names]
    qrels = {name: {"d2": 1} for name in names}
    found = compared("BM25", lists, dict.fromkeys(names, "chain"), CORPUS, qrels, gain(qrels, lists))
    assert verdict(found).kind == kind
    assert verdict(found).sentence.startswith(words)
    assert "100 ms a query" in verdict(found).sentence


def test_worse_is_called_worse_and_nothing_is_claimed_without_judgements():
    names = [f"q{number}" for number in range(12)]
    lists = [reranked(name, ["d2", "d1"], ["d1", "d2"]) for name in names]
    qrels = {name: {"d2": 1} for name in names}
    texts = dict.fromkeys(names, "chain")
    assert verdict(compared("BM25", lists, texts, CORPUS, qrels, gain(qrels, lists))).kind == "down"
    bare = verdict(compared("BM25", lists, texts, CORPUS, {}, None))
    assert bare.sentence.startswith("It changes the first result of 100% of the queries for 100 ms a query.")


# --- input


def test_a_query_is_not_found_for_itself_only():
    corpus = {"1": "chain slips", "2": "chain wax", "3": "oil"}
    assert bm25_run({"2": "chain slips"}, corpus, 5) == {"2": ("2",)}


def test_queries_and_documents_come_in_several_forms(tmp_path):
    (tmp_path / "q.txt").write_text("one\n\ntwo\n")
    assert read_queries(tmp_path / "q.txt") == {"1": "one", "3": "two"}
    (tmp_path / "c.jsonl").write_text('{"_id": "x", "title": "T", "text": "a"}\n{"text": "b"}\n')
    assert read_corpus(tmp_path / "c.jsonl") == {"x": "T a", "2": "b"}
    prose = tmp_path / "prose"
    (prose / "deep").mkdir(parents=True)
    (prose / "a.md").write_text("# One\nline\n\n \nTwo\n")
    (prose / "deep" / "b.txt").write_text("Three")
    (prose / "c.bin").write_bytes(b"\xff")
    assert read_corpus(prose) == {"a.md#1": "# One\nline", "a.md#2": "Two", "deep/b.txt#1": "Three"}


def test_a_run_is_read_by_score(tmp_path):
    path = tmp_path / "run.txt"
    path.write_text("q1 Q0 d1 1 0.5 me\nq1 Q0 d2 2 7e0 me\nq2 Q0 d1 1 1 me\n")
    assert read_run(path) == {"q1": ("d2", "d1"), "q2": ("d1",)}
    write_run(path, {"q": ["b", "a", "c"]})
    assert read_run(path) == {"q": ("b", "a", "c")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("q1 Q0 d1 1 0.5", "run.txt:1: must have `query Q0 document rank score tag`, got 5 columns"),
        ("q1 Q0 d1 1 high me", "run.txt:1: the score must be a number, got 'high'"),
        ("q1 Q0 d1 1 nan me", "run.txt:1: the score must be a number, got 'nan'"),
        ("q1 Q0 d1 1 1 me\nq1 Q0 d1 2 0 me", "run.txt:2: a second row for the document `d1`"),
    ],
)
def test_a_broken_run_names_its_line(tmp_path, text, expected):
    (tmp_path / "run.txt").write_text(text)
    with pytest.raises(DataError, match=expected.replace("(", r"\(")):
        read_run(tmp_path / "run.txt")


def test_clicks_and_judgements_of_a_log_are_grades(tiny_folders, tmp_path):
    reranker = Reranker(tiny_folders["bert"], device="cpu", log=tmp_path / "log.db")
    passages = list(CORPUS.values())
    ranking = reranker.rank("Chain  slips", passages)
    reranker.log.clicks(ranking.id, [1])
    reranker.log.graded(ranking.id, {0: 3, 2: 0})
    reranker.log.rating(ranking.id, 1.0)
    reranker.feedback("brake squeal", relevant=[CORPUS["d4"]], irrelevant=["not in the corpus"])
    reranker.rank("another query", passages)
    reranker.log.close()
    found = logged_qrels(tmp_path / "log.db", QUERIES, CORPUS)
    assert found == {"q1": {"d2": 1, "d1": 3, "d3": 0}, "q2": {"d4": 1}}


# --- the command


class Reader(html.parser.HTMLParser):
    """Tags and text of a file; a tag that is not closed fails."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text, self.attributes = [], [], "", []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_one_file_holds_everything_and_no_script(folder, tiny_folders, capsys):
    (folder / "qrels.tsv").write_text("q1\td1\t1\nq2\td4\t2\n")
    write_run(folder / "mine.run", {"q1": ["d3", "d1", "gone"], "q2": ["d4", "d2", "d1"]})
    more = ["--judgements", folder / "qrels.tsv", "--run", folder / "mine.run"]
    assert run_report(folder, tiny_folders, *more) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("mine.run: ")
    assert "BM25: " in captured.out
    reader = Reader()
    reader.feed((folder / "report.html").read_text())
    assert reader.open == []
    assert not {"script", "link", "img", "iframe", "b>"} & set(reader.tags)
    assert CORPUS["d4"] in reader.text
    assert reader.tags.count("svg") == 8
    assert not [value for name, value in reader.attributes if name in ("src", "href") or name.startswith("on")]
    assert "95 % interval" in reader.text


def test_without_judgements_there_is_no_quality(folder, tiny_folders, capsys):
    assert run_report(folder, tiny_folders, "--limit", 1) == 0
    assert "only judgements or clicks can tell" in capsys.readouterr().out
    text = (folder / "report.html").read_text()
    assert "nDCG" not in text
    assert "1 queries" in text or "1 query" in text


def test_a_log_is_as_good_as_judgements(folder, tiny_folders, capsys):
    with FeedbackLog(folder / "log.db") as log:
        log.judged(QUERIES["q1"], [CORPUS["d2"]])
    assert run_report(folder, tiny_folders, "--log", folder / "log.db") == 0
    assert "nDCG@10" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--judgements", "a", "--log", "b"], "either `--judgements` or `--log` may be given, got both"),
        (["--out", "no/such/report.html"], "`--out` must be a file in a folder that exists, got 'no/such/report.html'"),
        (["--log", "no.db"], "`--log` must name a feedback log, got 'no.db'"),
        (["--judgements", "no.tsv"], "no.tsv: cannot be read"),
        (["--run", "no.run"], "no.run: cannot be read"),
        (["--corpus", "empty"], "empty: holds neither corpus.jsonl nor a .txt or .md file with text"),
        (["--depth", "1"], "Invalid value for '--depth'"),
    ],
)
def test_wrong_arguments_are_one_line(folder, tiny_folders, capsys, monkeypatch, arguments, expected):
    monkeypatch.chdir(folder)
    Path("empty").mkdir()
    assert run_report(folder, tiny_folders, *arguments) in (1, 2)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert expected in line
    assert not (folder / "report.html").exists()


def test_judgements_of_other_queries_are_refused(folder, tiny_folders, capsys):
    (folder / "qrels.tsv").write_text("other\td1\t1\n")
    assert run_report(folder, tiny_folders, "--judgements", folder / "qrels.tsv") == 1
    assert "judges none of the 2 queries" in capsys.readouterr().err


def test_queries_that_share_no_word_with_a_document_are_said(folder, tiny_folders, capsys):
    (folder / "queries.jsonl").write_text(json.dumps({"query": f"{WORDS[0]}zzz"}))
    assert run_report(folder, tiny_folders) == 1
    assert "no query shares a word with a document" in capsys.readouterr().err
