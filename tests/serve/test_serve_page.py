"""The page's files and facts, and /explain; what a browser makes of them is in `tests/browser`."""

import re

import pytest
from running import running

from gliclass_rerank import Reranker
from gliclass_rerank.examples.store import ExampleStore
from gliclass_rerank.serve.models import ServedModel

QUERY, PASSAGES = "chain slips", ["brake pad", "oil the chain. Fix the wheel.", "pump"]


def test_the_page_and_all_that_it_names_are_served(server):
    page = server.get("/")
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    named = set(re.findall(r'"page/([a-z.]+)"', page.body.decode()))
    assert "app.js" in named
    seen = set()
    while named - seen:
        name = (named - seen).pop()
        seen.add(name)
        file = server.get(f"/page/{name}")
        assert file.status == 200, name
        named |= set(re.findall(r'from "\./([a-z]+\.js)"', file.body.decode()))
    assert len(seen) > 10


def test_nothing_comes_from_elsewhere(server):
    for name in ("/", "/page/page.css", "/page/app.js", "/page/dom.js"):
        file = server.get(name)
        assert "default-src 'none'" in file.headers["content-security-policy"]
        assert file.headers["x-content-type-options"] == "nosniff"
        urls = re.findall(rb"https?://[^\s\"']+", file.body)
        assert set(urls) <= {b"http://www.w3.org/2000/svg"}


def test_files_that_a_browser_has_are_not_sent_again(server):
    first = server.get("/page/page.css")
    again = server.get("/page/page.css", {"if-none-match": first.headers["etag"]})
    assert (again.status, again.body) == (304, b"")


def test_the_page_can_be_left_out(reranker):
    with running(ServedModel("tiny", reranker), page=False) as server:
        assert server.get("/").status == 404
        assert server.get("/page/facts").status == 404


def test_facts_need_the_key_and_the_page_does_not(reranker):
    with running(ServedModel("tiny", reranker), api_key=("secret",)) as server:
        assert server.get("/").status == 200
        assert server.get("/page/facts").status == 401
        assert server.post("/explain", {"query": QUERY, "passages": PASSAGES}).status == 401
        assert server.get("/page/facts", {"authorization": "Bearer secret"}).status == 200


def test_facts_tell_of_the_models(server):
    facts = server.get("/page/facts").body
    assert [model["name"] for model in facts["models"]] == ["tiny", "other"]
    assert facts["models"][0] | {"max_tokens": 0} == {
        "name": "tiny",
        "backend": "torch",
        "dtype": "float32",
        "device": "cpu",
        "max_tokens": 0,
        "learns": False,
    }


def test_explain_is_the_librarys_ranking_with_spans(server, reranker):
    found = server.post("/explain", {"query": QUERY, "passages": PASSAGES})
    ranking = reranker.rank(QUERY, PASSAGES, spans=True)
    assert [(hit["index"], hit["logit"]) for hit in found.body["hits"]] == [
        (hit.index, pytest.approx(hit.logit, abs=1e-5)) for hit in ranking
    ]
    spans = {hit["index"]: [(span["start"], span["end"]) for span in hit["spans"]] for hit in found.body["hits"]}
    assert spans == {hit.index: [(span.start, span.end) for span in hit.spans] for hit in ranking}
    assert len(spans[1]) == 2
    assert found.body["model"] == "tiny"
    assert found.body["ranking_ms"] > 0
    assert int(found.headers["x-compute-tokens"]) == found.body["num_tokens"] == ranking.num_tokens


def test_spans_are_left_out_on_request(server):
    found = server.post("/explain", {"query": QUERY, "passages": PASSAGES, "spans": False}).body
    assert all(hit["spans"] == [] for hit in found["hits"])


def test_explain_says_what_was_not_read(tiny_folders):
    short = Reranker(tiny_folders["bert"], device="cpu", max_window_tokens=24, long_passages="cut")
    with running(ServedModel("tiny", short)) as server:
        found = server.post("/explain", {"query": "chain " * 30, "passages": ["oil", "oil " * 50]}).body
    cuts = {hit["index"]: hit.get("cut") for hit in found["hits"]}
    assert cuts[0] is None
    assert cuts[1]["num_lost"] > 0
    assert found["query_cut"]["num_lost"] > 0


def test_explain_shows_examples_and_judgements(tiny_folders, tmp_path):
    with ExampleStore(tmp_path / "judged.db") as store:
        taught = Reranker(tiny_folders["bert"], device="cpu", example_store=store)
        with running(ServedModel("tiny", taught)) as server:
            assert server.get("/page/facts").body["models"][0]["learns"]
            server.post("/feedback", {"query": QUERY, "relevant": ["pump"], "irrelevant": ["brake pad"]})
            found = server.post("/explain", {"query": QUERY, "passages": PASSAGES}).body
    assert [(hit["index"], hit.get("judged")) for hit in found["hits"]] == [
        (2, "relevant"),
        (1, None),
        (0, "irrelevant"),
    ]
    assert found["examples"] == [{"query": QUERY, "relevant": ["pump"], "irrelevant": ["brake pad"]}]


def test_explain_is_not_logged(tiny_folders, tmp_path):
    logged = Reranker(tiny_folders["bert"], device="cpu", log=tmp_path / "log.db")
    with running(ServedModel("tiny", logged)) as server:
        found = server.post("/explain", {"query": QUERY, "passages": PASSAGES})
        assert "x-ranking-id" not in found.headers
    assert list(logged.log.rankings()) == []
    logged.log.close()


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        ({"query": " ", "passages": ["a"]}, 400, "`query` must not be blank, got ' '"),
        ({"query": "a"}, 400, "`passages` is missing"),
        ({"query": "a", "passages": "b"}, 400, "`passages`: input should be a valid list, got 'b'"),
        ({"query": "a", "passages": ["b"] * 3000}, 413, "at most 2048 documents are accepted, got 3000"),
    ],
)
def test_explain_refuses_in_one_sentence(server, body, status, expected):
    found = server.post("/explain", body)
    assert found.status == status
    assert found.body["error"]["message"] == expected
