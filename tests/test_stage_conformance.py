"""The conformance suite for adapters holds for the thinnest adapter there can be: plain objects around the stage."""

import copy
import pickle
from dataclasses import dataclass, replace

from gliclass_rerank import RerankStage
from gliclass_rerank.testing import AdapterConformance


@dataclass
class Found:
    identity: str
    text: str
    score: float
    metadata: dict
    embedding: list


def reranked(stage, documents, ranking):
    return [
        replace(
            documents[hit.index],
            score=documents[hit.index].score if hit.score is None else hit.score,
            metadata={**documents[hit.index].metadata, **stage.notes(hit, ranking)},
        )
        for hit in ranking
    ]


def call(documents):
    return {
        "passages": [found.text for found in documents],
        "retrieval_scores": [found.score for found in documents],
        "ids": [found.identity for found in documents],
    }


class TestPlainAdapter(AdapterConformance):
    cutoff = "top_k"

    def build(self, **settings):
        return RerankStage(**settings)

    def documents(self, passages, scores, metadata):
        return [
            Found(f"doc-{index}", text, score, copy.deepcopy(metadata), [0.5, float(index)])
            for index, (text, score) in enumerate(zip(passages, scores, strict=True))
        ]

    def run(self, adapter, query, documents, **overrides):
        return reranked(adapter, documents, adapter.run(query, **call(documents), **overrides))

    async def arun(self, adapter, query, documents, **overrides):
        return reranked(adapter, documents, await adapter.arun(query, **call(documents), **overrides))

    def identity(self, document):
        return document.identity

    def score(self, document):
        return document.score

    def metadata(self, document):
        return document.metadata

    def content(self, document):
        return document.text, document.embedding

    def reload(self, adapter):
        return pickle.loads(pickle.dumps(adapter))

    def setting(self, adapter, name):
        return adapter.__getstate__()["_loading"].get(name)  # what a pickle carries
