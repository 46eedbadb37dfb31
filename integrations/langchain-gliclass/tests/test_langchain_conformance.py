"""What every adapter promises."""

import copy
import pickle

from langchain_core.documents import Document
from langchain_gliclass import GLiClassRerank

from gliclass_rerank.testing import AdapterConformance


class TestGLiClassRerank(AdapterConformance):
    def build(self, **settings):
        return GLiClassRerank(retrieval_score_key="retrieval", **settings)

    def documents(self, passages, scores, metadata):
        return [
            Document(
                page_content=text,
                id=f"doc-{index}",
                # LangChain's documents have no place for an embedding but this.
                metadata={**copy.deepcopy(metadata), "retrieval": score, "embedding": [0.5, float(index)]},
            )
            for index, (text, score) in enumerate(zip(passages, scores, strict=True))
        ]

    def run(self, adapter, query, documents, **overrides):
        return adapter.rerank(documents, query, **overrides)

    async def arun(self, adapter, query, documents, **overrides):
        return await adapter.arerank(documents, query, **overrides)

    def identity(self, document):
        return document.id

    def score(self, document):
        return document.metadata.get("relevance_score")

    def metadata(self, document):
        return document.metadata

    def content(self, document):
        return document.page_content, document.type, document.metadata["embedding"]

    def reload(self, adapter):
        return pickle.loads(pickle.dumps(adapter))
