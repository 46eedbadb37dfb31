"""Each API's shape, against a server that listens; scores are compared with the library's own."""

import pytest

QUERY = "chain slips"
DOCUMENTS = ["oil the chain", "brake pads squeal in rain", "the chain slips on a worn cog", "pump the tire"]


@pytest.fixture
def ranking(reranker):
    return reranker.rank(QUERY, DOCUMENTS)


def body(**more):
    return {"model": "tiny", "query": QUERY, "documents": DOCUMENTS, **more}


def ranked(results, score="relevance_score"):
    return [(result["index"], result[score]) for result in results]


def expected(ranking, count=None):
    return [(hit.index, hit.score) for hit in ranking[:count]]


@pytest.mark.parametrize(
    "path",
    [
        "/rerank",
        "/v1/rerank",
        "/v2/rerank",
        "/cohere/v1/rerank",
        "/cohere/v2/rerank",
        "/jina/v1/rerank",
        "/vllm/rerank",
        "/vllm/v1/rerank",
        "/vllm/v2/rerank",
        "/infinity/rerank",
        "/infinity/v1/rerank",
    ],
)
def test_every_route_in_coheres_shape_answers_the_librarys_ranking(server, ranking, path):
    answer = server.post(path, body())

    assert answer.status == 200
    assert ranked(answer.body["results"]) == expected(ranking)
    assert answer.body["model"] == "tiny"
    assert answer.body["usage"] == {"prompt_tokens": ranking.num_tokens, "total_tokens": ranking.num_tokens}
    assert answer.body["meta"]["billed_units"] == {"search_units": 1}
    assert answer.body["id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(("top_n", "count"), [(2, 2), (0, 4), (None, 4), (99, 4), ("3", 3)])
def test_top_n_limits_the_results_and_zero_or_null_means_all(server, ranking, top_n, count):
    assert ranked(server.post("/v2/rerank", body(top_n=top_n)).body["results"]) == expected(ranking, count)


@pytest.mark.parametrize(
    ("path", "documents"),
    [
        ("/cohere/v1/rerank", None),
        ("/v2/rerank", None),
        ("/infinity/rerank", None),
        ("/jina/v1/rerank", {"text": DOCUMENTS[0]}),
        ("/rerank", {"text": DOCUMENTS[0]}),
        ("/v1/rerank", {"text": DOCUMENTS[0]}),
    ],
)
def test_documents_come_back_by_default_where_the_api_does_so(server, path, documents):
    by_index = {result["index"]: result for result in server.post(path, body()).body["results"]}
    assert by_index[0].get("document") == documents


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("/cohere/v1/rerank", {"text": DOCUMENTS[0]}),
        ("/infinity/rerank", DOCUMENTS[0]),
        ("/vllm/rerank", {"text": DOCUMENTS[0]}),
    ],
)
def test_documents_come_back_on_request_in_the_apis_form(server, path, document):
    for true in (True, "true", "True"):
        by_index = {
            result["index"]: result for result in server.post(path, body(return_documents=true)).body["results"]
        }
        assert by_index[0]["document"] == document


def test_documents_may_be_objects_with_text_or_with_fields_to_rank_by(server, ranking):
    objects = [{"text": text, "id": number} for number, text in enumerate(DOCUMENTS)]
    answer = server.post("/v1/rerank", body(documents=objects))
    assert ranked(answer.body["results"]) == expected(ranking)
    assert answer.body["results"][0]["document"] == objects[answer.body["results"][0]["index"]]

    fields = [{"title": "", "body": text} for text in DOCUMENTS]
    answer = server.post("/v1/rerank", body(documents=fields, rank_fields=["body"]))
    assert ranked(answer.body["results"]) == expected(ranking)


def test_tei_answers_a_bare_list(server, ranking):
    request = {"query": QUERY, "texts": DOCUMENTS, "truncation_direction": "Right", "top_n": 2}
    for path in ("/rerank", "/tei/rerank"):
        answer = server.post(path, request)
        assert ranked(answer.body, "score") == expected(ranking)
        assert "text" not in answer.body[0]

    answer = server.post("/rerank", {**request, "raw_scores": True, "return_text": True})
    assert ranked(answer.body, "score") == [(hit.index, hit.logit) for hit in ranking]
    assert [rank["text"] for rank in answer.body] == [DOCUMENTS[hit.index] for hit in ranking]


def test_raw_scores_are_logits_for_infinity_and_vllm(server, ranking):
    logits = [(hit.index, hit.logit) for hit in ranking]
    assert ranked(server.post("/rerank", body(raw_scores=True)).body["results"]) == logits
    assert ranked(server.post("/rerank", body(use_activation=False)).body["results"]) == logits


@pytest.mark.parametrize("path", ["/v1/rerank", "/voyage/v1/rerank", "/voyage/rerank"])
def test_voyage_answers_under_data(server, ranking, path):
    answer = server.post(path, body(top_k=2, truncation=True, return_documents=True))

    assert ranked(answer.body["data"]) == expected(ranking, 2)
    assert [result["document"] for result in answer.body["data"]] == [DOCUMENTS[hit.index] for hit in ranking[:2]]
    assert answer.body["usage"] == {"total_tokens": ranking.num_tokens}


@pytest.mark.parametrize(
    "names", [("text_1", "text_2"), ("queries", "documents"), ("data_1", "data_2"), ("queries", "items")]
)
@pytest.mark.parametrize("path", ["/score", "/v1/score", "/vllm/score"])
def test_scores_of_pairs_stay_in_the_order_of_the_request(server, ranking, path, names):
    first, second = names
    answer = server.post(path, {"model": "tiny", first: QUERY, second: DOCUMENTS})

    by_index = {hit.index: hit.score for hit in ranking}
    assert [each["score"] for each in answer.body["data"]] == [by_index[index] for index in range(4)]
    assert [each["index"] for each in answer.body["data"]] == [0, 1, 2, 3]


def test_scores_of_pairs_with_a_query_each(server, reranker):
    queries = ["chain", "brake", "rain", "tire"]
    answer = server.post("/score", {"text_1": queries, "text_2": DOCUMENTS})

    alone = [reranker.rank(query, [text])[0].score for query, text in zip(queries, DOCUMENTS, strict=True)]
    assert [each["score"] for each in answer.body["data"]] == alone


def test_the_requests_model_chooses_and_an_unknown_one_takes_the_default(server):
    models = {
        name: server.post("/v2/rerank", body(model=name)).body["model"] for name in ("tiny", "other", "gpt", None)
    }
    assert models == {"tiny": "tiny", "other": "other", "gpt": "tiny", None: "tiny"}

    listed = server.get("/v1/models").body
    assert [model["id"] for model in listed["data"]] == ["tiny", "other"]


def test_no_documents_are_an_empty_ranking_except_for_tei(server):
    assert server.post("/v2/rerank", body(documents=[])).body["results"] == []
    assert server.post("/rerank", {"query": QUERY, "texts": []}).body["error_type"] == "Empty"


def test_labels_are_scored_as_by_the_library(server, classifier):
    labels = ["repair", "noise", "praise"]
    every = {each.label: each.score for each in classifier.classify(QUERY, labels, 0.0)[0]}
    answer = server.post("/classify", {"text": QUERY, "labels": labels})
    assert {label["label"]: label["score"] for label in answer.body["labels"]} == every
    assert [label["score"] for label in answer.body["labels"]] == sorted(every.values(), reverse=True)

    (best,) = classifier.classify(QUERY, labels, multi_label=False)[0]
    answer = server.post("/classify", {"text": QUERY, "labels": labels, "multi_label": False})
    assert answer.body["labels"][0] == {"label": best.label, "index": best.index, "score": pytest.approx(best.score)}


def test_system_ones_questions_are_answered_by_type(server, classifier):
    questions = {
        "worn": {"type": "noul", "instructions": "the chain is worn"},
        "kind": {"type": "choice", "instructions": None, "criteria": {"repair": "fix it", "noise": None}},
        "harm": {"type": "score", "criteria": ["none", "some", "much"]},
    }
    answers = server.post("/v1/systemone", {"state": {"text": QUERY}, "questions": questions}).body["answers"]

    (logit,) = classifier.logits('{"text": "chain slips"}', ["the chain is worn"])
    assert answers["worn"] == {"type": "noul", "noul": pytest.approx(1 / (1 + 2.718281828459045**-logit))}
    assert sum(answers["kind"]["probabilities"].values()) == pytest.approx(1)
    assert answers["kind"]["choice"] == max(answers["kind"]["probabilities"], key=answers["kind"]["probabilities"].get)
    assert answers["harm"]["legend"] == {"0": "none", "1": "some", "2": "much"}
    levels = answers["harm"]["probabilities"]
    assert answers["harm"]["score"] == pytest.approx(levels["1"] + 2 * levels["2"])
    assert 0 <= answers["harm"]["confidence"] <= 1


def test_info_tells_what_dify_asks_before_it_ranks(server, reranker):
    for path in ("/info", "/tei/info"):
        info = server.get(path).body
        assert "reranker" in info["model_type"]
        assert info["max_input_length"] == reranker.max_window_tokens
        assert info["max_client_batch_size"] == info["max_batch_tokens"] == 2048
