"""Errors in each API's own shape, and the limits of a request."""

import pytest
from running import running

from gliclass_rerank.serve.models import ServedModel

QUERY, DOCUMENTS = "chain slips", ["oil the chain", "pump the tire"]


def message(answer):
    """The sentence, out of any of the shapes."""
    body = answer.body
    error = body.get("error", body.get("message", body.get("detail")))
    return error["message"] if isinstance(error, dict) else error


@pytest.mark.parametrize(
    ("path", "status", "shape"),
    [
        ("/v2/rerank", 400, {"message"}),
        ("/cohere/v1/rerank", 400, {"message"}),
        ("/v1/rerank", 422, {"detail"}),
        ("/voyage/v1/rerank", 400, {"detail"}),
        ("/tei/rerank", 422, {"error", "error_type"}),
        ("/rerank", 400, {"error"}),
        ("/infinity/rerank", 400, {"error"}),
        ("/score", 400, {"error"}),
        ("/classify", 400, {"error"}),
        ("/v1/systemone", 422, {"detail"}),
        ("/feedback", 400, {"error"}),
    ],
)
@pytest.mark.parametrize("body", ["", "{", "[]", "5", b"\xff", "[" * 100_000, '{"a": NaN'])
def test_what_is_no_json_object_is_refused_in_the_apis_shape(server, path, status, shape, body):
    answer = server.post(path, body)

    assert answer.status == status
    assert answer.body.keys() == shape
    assert message(answer).startswith("the body must be a JSON object, got ")
    assert len(message(answer)) < 150


@pytest.mark.parametrize(
    ("path", "fields", "expected"),
    [
        ("/v2/rerank", {"documents": DOCUMENTS}, "`query` is missing"),
        ("/v2/rerank", {"query": QUERY}, "`documents` is missing"),
        ("/v2/rerank", {"query": None, "documents": DOCUMENTS}, "`query` is missing"),
        ("/v2/rerank", {"query": 5, "documents": DOCUMENTS}, "`query`: input should be a valid string, got 5"),
        ("/v2/rerank", {"query": QUERY, "documents": "oil"}, "`documents`: input should be a valid list, got 'oil'"),
        ("/v2/rerank", {"query": " \n", "documents": DOCUMENTS}, "`query` must not be blank, got ' \\n'"),
        ("/v2/rerank", {"query": QUERY, "documents": ["a", 5]}, "`documents[1]` must be a string or an object with"),
        ("/v2/rerank", {"query": QUERY, "documents": [{"id": 1}]}, "`documents[0]` must be a string or an object with"),
        ("/v2/rerank", {"query": QUERY, "documents": DOCUMENTS, "top_n": -1}, "`top_n`: input should be greater than"),
        ("/v2/rerank", {"query": QUERY, "documents": DOCUMENTS, "relevant_spans": {}}, "`relevant_spans.mode` is miss"),
        ("/v2/rerank", {"query": QUERY, "documents": DOCUMENTS, "relevant_spans": 5}, "`relevant_spans`: input should"),
        ("/v1/rerank", {"query": QUERY, "documents": DOCUMENTS, "return_embeddings": True}, "`return_embeddings` must"),
        ("/score", {"queries": ["a", "b"], "documents": ["a"]}, "`queries` must hold one text, or one for each of 1"),
        ("/tei/rerank", {"query": QUERY, "texts": [5]}, "`texts.0`: input should be a valid string, got 5"),
        ("/classify", {"text": "oil", "labels": []}, "`labels`: list should have at least 1 item"),
        ("/v1/systemone", {"state": "oil", "questions": {}}, "`questions`: dictionary should have at least 1 item"),
        ("/feedback", {"query": QUERY, "relevant": ["oil"]}, "feedback needs a store, pass `example_store`, got None"),
    ],
)
def test_a_bad_field_is_named_in_one_sentence(server, path, fields, expected):
    answer = server.post(path, fields)

    assert 400 <= answer.status < 500
    assert message(answer).startswith(expected)


def test_documents_that_must_not_be_cut_are_read_in_chunks_and_such_queries_are_refused(server):
    long = "chain " * 400
    for path, fields in (
        ("/tei/rerank", {"texts": ["oil", long], "truncate": False}),
        ("/voyage/v1/rerank", {"documents": ["oil", long], "truncation": False}),
    ):
        answer = server.post(path, {"query": QUERY, **fields})
        assert answer.status == 200
        short = {**fields, **{name: ["oil"] for name in ("texts", "documents") if name in fields}}
        answer = server.post(path, {"query": long, **short})
        assert answer.status in (400, 422)
        assert message(answer).startswith("the query has 400 tokens, ")


def test_unknown_paths_and_methods_are_told(server):
    answer = server.get("/rerank")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    answer = server.post("/v3/rerank", {})
    assert answer.status == 404
    assert message(answer) == "Not Found: POST /v3/rerank; see /docs"


@pytest.mark.parametrize(
    ("setting", "fields", "expected"),
    [
        ({"max_documents": 1}, {"documents": DOCUMENTS}, "at most 1 documents are accepted, got 2"),
        ({"max_body_bytes": 20}, {"documents": DOCUMENTS}, "bodies of at most 20 bytes are accepted, got more"),
        ({"max_request_tokens": 5}, {"documents": DOCUMENTS}, "documents of at most 5 tokens are accepted, got about"),
    ],
)
def test_limits_are_told(reranker, setting, fields, expected):
    with running(ServedModel("tiny", reranker), **setting) as server:
        answer = server.post("/v2/rerank", {"query": QUERY, **fields})
        assert answer.status == 413
        assert answer.body["message"].startswith(expected)
        texts = {"query": QUERY, "texts": fields["documents"]}
        assert server.post("/tei/rerank", texts).body["error_type"] == "Validation"


def test_without_a_classifier_the_answer_says_how_to_get_one(reranker):
    with running(ServedModel("tiny", reranker)) as server:
        for path, fields in (
            ("/classify", {"text": "oil", "labels": ["a"]}),
            ("/v1/systemone", {"state": "oil", "questions": {"a": {"type": "noul"}}}),
        ):
            answer = server.post(path, fields)
            assert answer.status == 404
            assert "start it with `--classifier" in message(answer)


def test_a_model_that_fails_is_a_500_and_for_tei_a_424(scripted):
    reranker, _ = scripted({"oil": float("nan")})
    with running(ServedModel("tiny", reranker)) as server:
        answer = server.post("/v2/rerank", {"query": QUERY, "documents": ["oil"]})
        assert (answer.status, answer.body["message"]) == (
            500,
            "the model gave NaN as a logit; check its weights and precision",
        )
        answer = server.post("/tei/rerank", {"query": QUERY, "texts": ["oil"]})
        assert (answer.status, answer.body["error_type"]) == (424, "Backend")
