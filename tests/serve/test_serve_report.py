"""The report as a page of the server: the same figures as the command's, one sentence for what is wrong."""

import json
import re
import threading

import pytest
from running import running

from gliclass_rerank import Reranker
from gliclass_rerank.cli.app import main
from gliclass_rerank.learn.report.serving import report_page
from gliclass_rerank.serve.models import ServedModel

QUERIES = "chain slips\nbrake squeal\n"
DOCUMENTS = "oil the chain\nchain wax\nbrake pad\nbrake squeal & <b>grease</b>\n"


@pytest.fixture(scope="module")
def client(tiny_folders):
    reranker = Reranker(tiny_folders["bert"], device="cpu")
    with running(ServedModel("tiny", reranker), extensions=[report_page], max_documents=20) as found:
        yield found


def file(text, name="pasted.txt"):
    return {"name": name, "text": text}


def body(**changes):
    return {"queries": file(QUERIES), "corpus": [file(DOCUMENTS)], **changes}


def movements(html):
    return re.findall(r'class="was .*?</span>|<span class="score">.*?</span>', html, re.DOTALL)


def without_times(text):
    return re.sub(r"\d+(\.\d)? (ms|s)\b", "", text)


def test_the_report_is_the_commands(client, tiny_folders, tmp_path, capsys):
    for name, text in (("queries.txt", QUERIES), ("documents.txt", DOCUMENTS), ("judged.tsv", "1\t1\t1\n2\t4\t2\n")):
        (tmp_path / name).write_text(text)
    files = ["--queries", "queries.txt", "--corpus", "documents.txt", "--judgements", "judged.tsv"]
    arguments = [str(tmp_path / each) if "." in each else each for each in files]
    out = tmp_path / "report.html"
    assert main(["report", *arguments, "--out", str(out), "--model", str(tiny_folders["bert"]), "--device", "cpu"]) == 0

    answer = client.post("/report", body(judgements=file("1\t1\t1\n2\t4\t2\n", "judged.tsv")))

    assert answer.status == 200
    (found,) = answer.body["findings"]
    assert found["retriever"] == "BM25"
    assert without_times(f"BM25: {found['sentence']}\n") == without_times(capsys.readouterr().out)
    assert movements(answer.body["html"]) == movements(out.read_text("utf-8")) != []
    assert "&lt;b&gt;grease" in answer.body["html"]
    assert "<script" not in answer.body["html"]


def test_a_retriever_of_ones_own_stands_beside_bm25(client):
    run = file("1 Q0 3 1 9.0 mine\n1 Q0 2 2 8.0 mine\n", "my run.trec")

    answer = client.post("/report", body(run=run))

    assert [found["retriever"] for found in answer.body["findings"]] == ["my_run.trec", "BM25"]


def test_files_are_read_as_the_command_reads_them(client):
    lines = "".join(json.dumps({"id": f"d{n}", "text": text}) + "\n" for n, text in enumerate(DOCUMENTS.splitlines()))
    judged = file("q\td0\t1\n")
    queries = file('{"id": "q", "query": "chain slips"}\n', "queries.jsonl")

    as_lines = client.post("/report", body(queries=queries, corpus=[file(lines, "d.jsonl")], judgements=judged))
    as_paragraphs = client.post("/report", body(corpus=[file("oil the\nchain\n\nwax", "a.md"), file("pad", "a.md")]))

    assert "nDCG@10 goes from" in as_lines.body["findings"][0]["sentence"]
    assert "2 queries, 3 documents" in as_paragraphs.body["html"]


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"queries": file(" \n")}, 400, "pasted.txt: holds no queries"),
        ({"corpus": []}, 400, "`corpus`: "),
        ({"corpus": [file("{", "../../etc/d.jsonl")]}, 400, "_.._etc_d.jsonl:1: "),
        ({"corpus": [file("nothing alike")]}, 400, "no query shares a word with a document"),
        ({"judgements": file("9\t1\t1\n")}, 400, "pasted.txt: judges none of the 2 queries"),
        ({"run": file("7 Q0 1 1 9.0 mine\n")}, 400, "pasted.txt: has results for none of the 2 queries"),
        ({"depth": 1}, 400, "`depth`: "),
        ({"depth": 50, "corpus": [file("chain oil\n" * 30)]}, 413, "at most 20 documents are accepted, got 30"),
    ],
)
def test_what_is_wrong_is_one_sentence(client, changes, status, message):
    answer = client.post("/report", body(**changes))

    assert answer.status == status
    assert message in answer.body["error"]["message"]
    assert "/tmp" not in answer.body["error"]["message"]


def test_judgements_of_the_very_queries_are_not_shown_to_the_model(client, tiny_folders, tmp_path):
    question = {"query": "chain slips", "documents": ["oil the chain", "chain wax"]}
    worst = question["documents"][client.post("/v2/rerank", question).body["results"][-1]["index"]]
    reranker = Reranker(tiny_folders["bert"], device="cpu", example_store=str(tmp_path / "store.db"))
    reranker.feedback("chain slips", relevant=[worst])
    with running(ServedModel("tiny", reranker), extensions=[report_page]) as learned:
        found = learned.post("/report", body())
        judged = learned.post("/v2/rerank", question).body["results"]
    assert question["documents"][judged[0]["index"]] == worst
    assert movements(found.body["html"]) == movements(client.post("/report", body()).body["html"])


def test_a_reader_who_leaves_stops_it(client, monkeypatch):
    import http.client

    import gliclass_rerank.learn.report.serving as serving

    begun, asked, real = threading.Event(), [], serving.ExplainRequest

    def slow(query, *rest, **options):
        asked.append(query)
        begun.set()
        return real(query, *rest, **options)

    monkeypatch.setattr(serving, "ExplainRequest", slow)
    many = body(queries=file("".join(f"chain {n}\n" for n in range(3_000))), limit=3_000)
    connection = http.client.HTTPConnection("127.0.0.1", client.port)
    connection.request("POST", "/report", json.dumps(many), {"content-type": "application/json"})
    assert begun.wait(60)
    connection.close()

    assert client.post("/report", body()).status == 200
    assert len(asked) < 3_000


def test_a_server_without_the_page_has_no_reports(tiny_folders):
    reranker = Reranker(tiny_folders["bert"], device="cpu")
    with running(ServedModel("tiny", reranker), extensions=[report_page], page=False) as client:
        assert client.get("/report").status == client.post("/report", body()).status == 404
    with running(ServedModel("tiny", reranker)) as client:
        assert client.get("/page/facts").body["reports"] is False
        assert client.get("/report").status == 404


def test_the_page_says_that_there_are_reports(client):
    assert client.get("/page/facts").body["reports"] is True
    page = client.get("/report")
    assert page.status == 200
    assert "'sha256-" in page.headers["content-security-policy"]
