"""Routes of the server. Where APIs share a path, the body tells which one is meant; a prefix fixes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gliclass_rerank.serve.apis.api import Api
from gliclass_rerank.serve.apis.cohere import Cohere
from gliclass_rerank.serve.apis.explain import Explain
from gliclass_rerank.serve.apis.infinity import Infinity
from gliclass_rerank.serve.apis.jina import Jina
from gliclass_rerank.serve.apis.native import Classify, Clicks, Feedback, Rating
from gliclass_rerank.serve.apis.system_one import SystemOne
from gliclass_rerank.serve.apis.tei import Tei
from gliclass_rerank.serve.apis.vllm import Vllm, VllmScore
from gliclass_rerank.serve.apis.voyage import Voyage
from gliclass_rerank.serve.settings import DocumentFormat


@dataclass(frozen=True)
class Route:
    """Path with its APIs.

    Attributes:
        path: Path.
        apis: Possible APIs, the usual one first.
        marks: Fields by which a body is known to belong to another one, by place in `apis`.
        operation: Name of its spans.
    """

    path: str
    apis: tuple[Api[Any], ...]
    marks: tuple[frozenset[str], ...] = ()
    operation: str = "rerank"

    def choose(self, fields: Mapping[str, Any]) -> Api[Any]:  # Any: JSON
        """API that a body belongs to."""
        for api, marks in zip(self.apis[1:], self.marks, strict=True):
            if marks & fields.keys():
                return api
        return self.apis[0]


def all_routes(document_format: DocumentFormat) -> list[Route]:
    """All POST routes.

    Args:
        document_format: Format of returned documents where Cohere's, Jina's and vLLM's APIs meet.

    Returns:
        The routes.
    """
    cohere, jina, vllm, score = Cohere(), Jina(document_format), Vllm(document_format), VllmScore()
    tei, infinity, voyage = Tei(), Infinity(), Voyage()
    of_tei, of_infinity, of_voyage = frozenset({"texts"}), frozenset({"raw_scores"}), frozenset({"top_k", "truncation"})
    of_cohere = frozenset({"max_chunks_per_doc", "relevant_spans", "rank_fields"})
    return [
        Route("/rerank", (vllm, tei, infinity, voyage), (of_tei, of_infinity, of_voyage)),
        Route("/v1/rerank", (jina, tei, infinity, voyage, cohere), (of_tei, of_infinity, of_voyage, of_cohere)),
        Route("/v2/rerank", (cohere,)),
        Route("/score", (score,)),
        Route("/v1/score", (score,)),
        Route("/cohere/v1/rerank", (cohere,)),
        Route("/cohere/v2/rerank", (cohere,)),
        Route("/jina/v1/rerank", (jina,)),
        Route("/vllm/rerank", (Vllm(),)),
        Route("/vllm/v1/rerank", (Vllm(),)),
        Route("/vllm/v2/rerank", (Vllm(),)),
        Route("/vllm/score", (score,)),
        Route("/vllm/v1/score", (score,)),
        Route("/tei/rerank", (tei,)),
        Route("/infinity/rerank", (infinity,)),
        Route("/infinity/v1/rerank", (infinity,)),
        Route("/voyage/rerank", (voyage,)),
        Route("/voyage/v1/rerank", (voyage,)),
        Route("/explain", (Explain(),)),
        Route("/classify", (Classify(),), operation="classify"),
        Route("/v1/systemone", (SystemOne(),), operation="classify"),
        Route("/feedback", (Feedback(),), operation="feedback"),
        Route("/clicks", (Clicks(),), operation="feedback"),
        Route("/rating", (Rating(),), operation="feedback"),
    ]
