"""Official clients, unmodified but for the address, against a running server."""

import inspect
import os

import pytest
from conftest import BEST, DOCUMENTS, KEY, QUERY


def test_cohere_v1(url):
    cohere = pytest.importorskip("cohere")
    client = cohere.Client(api_key=KEY, base_url=url)

    answer = client.rerank(
        model="rerank-english-v3.0", query=QUERY, documents=DOCUMENTS, top_n=2, return_documents=True
    )

    assert answer.results[0].index == BEST
    assert len(answer.results) == 2
    assert 0 <= answer.results[1].relevance_score <= answer.results[0].relevance_score <= 1
    assert answer.results[0].document.text == DOCUMENTS[BEST]
    assert answer.meta.billed_units.search_units == 1


def test_cohere_v2(url):
    cohere = pytest.importorskip("cohere")
    client = cohere.ClientV2(api_key=KEY, base_url=url)

    answer = client.rerank(model="rerank-v3.5", query=QUERY, documents=DOCUMENTS, max_tokens_per_doc=100)

    assert sorted(result.index for result in answer.results) == [0, 1, 2]
    assert answer.results[0].index == BEST
    assert answer.id
    assert answer.meta.tokens.input_tokens > 0


def test_cohere_v2_relevant_spans(url):
    cohere = pytest.importorskip("cohere")
    client = cohere.ClientV2(api_key=KEY, base_url=url)
    if "relevant_spans" not in inspect.signature(client.rerank).parameters:
        pytest.skip("this SDK is older than relevant spans")
    wanted = {"mode": "enabled", "threshold": 0.0, "max_spans": 1}

    answer = client.rerank(model="rerank-v5.0-pro", query=QUERY, documents=DOCUMENTS, relevant_spans=wanted)

    for result in answer.results:
        (span,) = result.relevant_spans
        assert DOCUMENTS[result.index][span.start : span.end]
        assert 0 <= span.score <= 1


def test_cohere_v2_async(url):
    cohere = pytest.importorskip("cohere")
    import asyncio

    async def ask():
        async with cohere.AsyncClientV2(api_key=KEY, base_url=url) as client:
            return await client.rerank(model="m", query=QUERY, documents=DOCUMENTS, top_n=1)

    assert [result.index for result in asyncio.run(ask()).results] == [BEST]


def test_cohere_shows_our_messages_as_its_own_errors(url):
    cohere = pytest.importorskip("cohere")
    with pytest.raises(cohere.BadRequestError) as refused:
        cohere.ClientV2(api_key=KEY, base_url=url).rerank(model="m", query=" ", documents=DOCUMENTS)
    assert refused.value.body == {"message": "`query` must not be blank, got ' '"}
    with pytest.raises(cohere.UnauthorizedError):
        cohere.ClientV2(api_key="wrong", base_url=url).rerank(model="m", query=QUERY, documents=DOCUMENTS)


@pytest.mark.parametrize(
    ("model", "base"),
    [
        ("cohere/rerank-v3.5", "/v2/rerank"),
        ("cohere/rerank-english-v3.0", "/v1/rerank"),
        ("jina_ai/jina-reranker-v2", ""),
        ("hosted_vllm/reranker", ""),
        ("infinity/reranker", "/infinity"),
        ("huggingface/reranker", ""),
        ("voyage/rerank-2", "/voyage"),
    ],
)
def test_litellm(url, model, base, monkeypatch):
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    litellm = pytest.importorskip("litellm")

    answer = litellm.rerank(
        model=model, query=QUERY, documents=DOCUMENTS, top_n=2, return_documents=True, api_key=KEY, api_base=url + base
    )

    assert answer.results[0]["index"] == BEST
    assert 0 <= answer.results[0]["relevance_score"] <= 1
    assert answer.results[0]["document"]["text"] == DOCUMENTS[BEST]


def test_voyageai(url):
    voyageai = pytest.importorskip("voyageai")
    for base in ("/v1", "/voyage", "/voyage/v1"):
        answer = voyageai.Client(api_key=KEY, base_url=url + base).rerank(QUERY, DOCUMENTS, "rerank-2.5", top_k=2)
        assert answer.results[0].index == BEST
        assert len(answer.results) == 2
        assert answer.results[0].document == DOCUMENTS[BEST]
        assert answer.total_tokens > 0


@pytest.mark.parametrize("base", ["", "/infinity"])
def test_infinity_client(url, base):
    client = pytest.importorskip("infinity_client")
    from infinity_client.api.default import rerank
    from infinity_client.models import RerankInput

    wanted = RerankInput(query=QUERY, documents=DOCUMENTS, return_documents=True, top_n=2, model="reranker")
    with client.AuthenticatedClient(base_url=url + base, token=KEY) as connection:
        answer = rerank.sync(client=connection, body=wanted)

    assert answer.results[0].index == BEST
    assert answer.results[0].document == DOCUMENTS[BEST]
    assert answer.usage.total_tokens > 0


def test_haystacks_cohere_ranker(url):
    pytest.importorskip("haystack_integrations.components.rankers.cohere")
    from haystack import Document
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.cohere import CohereRanker

    ranker = CohereRanker(model="rerank-v3.5", api_key=Secret.from_token(KEY), api_base_url=url, top_k=2)
    found = ranker.run(query=QUERY, documents=[Document(content=text) for text in DOCUMENTS])["documents"]

    assert found[0].content == DOCUMENTS[BEST]
    assert 0 <= found[0].score <= 1


def test_langchains_cohere_rerank(url):
    pytest.importorskip("langchain_cohere")
    import cohere
    from langchain_cohere import CohereRerank
    from langchain_core.documents import Document

    compressor = CohereRerank(client=cohere.ClientV2(api_key=KEY, base_url=url), model="rerank-v3.5", top_n=2)
    found = compressor.compress_documents([Document(text) for text in DOCUMENTS], QUERY)

    assert found[0].page_content == DOCUMENTS[BEST]
    assert 0 <= found[0].metadata["relevance_score"] <= 1


def test_llama_indexs_cohere_rerank(url):
    pytest.importorskip("llama_index.postprocessor.cohere_rerank")
    from llama_index.core.schema import NodeWithScore, TextNode
    from llama_index.postprocessor.cohere_rerank import CohereRerank

    postprocessor = CohereRerank(api_key=KEY, base_url=url, model="rerank-v3.5", top_n=2)
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in DOCUMENTS]
    found = postprocessor.postprocess_nodes(nodes, query_str=QUERY)

    assert found[0].text == DOCUMENTS[BEST]
    assert 0 <= found[0].score <= 1
