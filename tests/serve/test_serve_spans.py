"""Cohere's `relevant_spans`, against a server that listens."""

import pytest

QUERY = "chain slips"
DOCUMENTS = ["oil the chain. brake pads squeal!", "pump the tire. the chain slips. \U0001f6b2 wax it", ""]
SPANS = {"mode": "enabled", "threshold": 0}


def about(score):
    """A score up to the rounding of another batch: the server asks for the spans of hits, in the order of hits."""
    return pytest.approx(score, abs=1e-6)


def asked(server, path="/v2/rerank", **more):
    return server.post(path, {"query": QUERY, "documents": DOCUMENTS, **more})


def spans_of(answer):
    return {
        result["index"]: [
            (span["start"], span["end"], about(span["score"])) for span in result.get("relevant_spans", ())
        ]
        for result in answer.body["results"]
    }


def expected(reranker, threshold=0.0, most=None):
    found = reranker.spans(QUERY, DOCUMENTS)
    return {
        index: [(span.start, span.end, span.score) for span in spans if span.score >= threshold][:most]
        for index, spans in enumerate(found)
    }


@pytest.mark.parametrize("path", ["/v2/rerank", "/v1/rerank", "/rerank", "/cohere/v1/rerank", "/infinity/rerank"])
def test_every_route_in_coheres_shape_answers_the_librarys_spans(server, reranker, path):
    answer = asked(server, path, relevant_spans=SPANS)

    assert answer.status == 200
    assert spans_of(answer) == expected(reranker)
    assert len(spans_of(answer)[1]) == 3


def test_a_document_without_a_sentence_above_the_threshold_has_no_spans(server, reranker):
    scores = sorted(score for spans in expected(reranker).values() for *_, score in spans)
    threshold = (scores[-2] + scores[-1]) / 2
    answer = asked(server, relevant_spans={"mode": "enabled", "threshold": threshold})

    assert spans_of(answer) == expected(reranker, threshold)
    assert sum("relevant_spans" in result for result in answer.body["results"]) == 1


def test_the_threshold_is_a_tenth_unless_given_and_max_spans_counts_per_document(server, reranker):
    assert spans_of(asked(server, relevant_spans={"mode": "enabled"})) == expected(reranker, 0.1)
    assert spans_of(asked(server, relevant_spans={**SPANS, "max_spans": 1})) == expected(reranker, most=1)


@pytest.mark.parametrize("given", [None, {"mode": "disabled"}])
def test_without_them_answers_are_as_before(server, given):
    assert all("relevant_spans" not in result for result in asked(server, relevant_spans=given).body["results"])


def test_spans_do_not_change_the_scores_whatever_came_first(server):
    plain, spanned = asked(server), asked(server, relevant_spans=SPANS, top_n=2)

    ranked = [(result["index"], result["relevance_score"]) for result in plain.body["results"]]
    assert [(result["index"], result["relevance_score"]) for result in spanned.body["results"]] == ranked[:2]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "`relevant_spans.mode` is missing"),
        ({"mode": "on"}, "`relevant_spans.mode`: input should be 'enabled' or 'disabled', got 'on'"),
        ({**SPANS, "threshold": 2}, "`relevant_spans.threshold`: input should be less than or equal to 1, got 2"),
        ({**SPANS, "max_spans": 0}, "`relevant_spans.max_spans`: input should be greater than or equal to 1, got 0"),
        ("yes", "`relevant_spans`: input should be"),
        ([1], "`relevant_spans`: input should be"),
    ],
)
def test_a_wrong_wish_is_named_in_one_sentence(server, given, message):
    answer = asked(server, relevant_spans=given)

    assert answer.status == 400
    assert answer.body["message"].startswith(message)
