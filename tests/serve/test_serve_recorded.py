"""Requests as applications send them, written from their public sources; what they read of the answer is checked."""

DOCUMENTS = ["oil the chain", "brake pads squeal in rain", "the chain slips on a worn cog"]
QUERY = "chain slips"


def in_unit_interval(scores):
    return all(0 <= score <= 1 for score in scores)


def test_open_webuis_external_reranker_gets_every_result(server):
    request = {"model": "BAAI/bge-reranker-v2-m3", "query": QUERY, "documents": DOCUMENTS, "top_n": len(DOCUMENTS)}
    results = server.post("/v1/rerank", request, {"authorization": "Bearer "}).body["results"]

    in_order = sorted(results, key=lambda result: result["index"])
    assert [result["index"] for result in in_order] == [0, 1, 2]
    assert in_unit_interval(result["relevance_score"] for result in in_order)


def test_open_webuis_external_reranker_speaks_tei_on_any_path(server):
    ranks = server.post("/v1/rerank", {"query": QUERY, "texts": DOCUMENTS, "truncate": True}).body
    assert sorted(rank["index"] for rank in ranks) == [0, 1, 2]
    assert in_unit_interval(rank["score"] for rank in ranks)


def test_difys_openai_compatible_plugin_sends_a_null_and_reads_document_text(server):
    request = {"model": "reranker", "query": QUERY, "documents": DOCUMENTS, "top_n": None, "return_documents": True}
    for path in ("/rerank", "/v1/rerank"):
        results = server.post(path, request).body["results"]
        assert all(result["document"]["text"] == DOCUMENTS[result["index"]] for result in results)


def test_difys_jina_plugin_does_not_ask_for_documents_but_reads_them(server):
    request = {"model": "jina-reranker-v2-base-multilingual", "query": QUERY, "documents": DOCUMENTS, "top_n": 2}
    results = server.post("/v1/rerank", request).body["results"]
    assert [result["document"]["text"] for result in results] == [DOCUMENTS[result["index"]] for result in results]


def test_difys_tei_plugin_asks_for_info_first(server):
    info = server.get("/info", {"authorization": "Bearer key"}).body
    assert info["model_type"]["reranker"]
    assert isinstance(info["max_input_length"], int)
    assert isinstance(info["max_client_batch_size"], int)

    ranks = server.post("/rerank", {"query": QUERY, "texts": DOCUMENTS}).body
    assert [DOCUMENTS[rank["index"]] for rank in ranks]
    assert in_unit_interval(rank["score"] for rank in ranks)


def test_ragflows_xinference_client_sends_booleans_as_strings(server):
    request = {"model": "m", "query": QUERY, "return_documents": "true", "return_len": "true", "documents": DOCUMENTS}
    body = server.post("/v1/rerank", request).body
    scores = [0.0] * len(DOCUMENTS)
    for result in body["results"]:
        scores[result["index"]] = result["relevance_score"]
    assert all(scores)
    assert body["meta"]["tokens"]["input_tokens"] + body["meta"]["tokens"]["output_tokens"] > 0
    assert in_unit_interval(scores)


def test_ragflows_openai_compatible_and_jina_clients_count_tokens(server):
    request = {"model": "m", "query": QUERY, "documents": DOCUMENTS, "top_n": len(DOCUMENTS)}
    for path in ("/rerank", "/v1/rerank"):
        body = server.post(path, request).body
        assert len(body["results"]) == 3
        assert body["usage"]["total_tokens"] > 0


def test_ragflows_tei_client_sends_raw_scores_false_with_texts(server):
    request = {"query": QUERY, "texts": DOCUMENTS, "raw_scores": False, "truncate": True}
    ranks = server.post("/rerank", request).body
    assert {rank["index"] for rank in ranks} == {0, 1, 2}


def test_librechats_rerankers_in_the_shape_of_jina_and_cohere(server):
    jina = {"model": "m", "query": QUERY, "top_n": 2, "documents": DOCUMENTS, "return_documents": True}
    assert all(result["document"]["text"] for result in server.post("/v1/rerank", jina).body["results"])
    cohere = {"model": "rerank-v3.5", "query": QUERY, "top_n": 2, "documents": DOCUMENTS}
    assert len(server.post("/v2/rerank", cohere).body["results"]) == 2
