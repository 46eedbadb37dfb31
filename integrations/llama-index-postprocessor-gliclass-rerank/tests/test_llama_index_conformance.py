"""What every adapter promises holds for the node postprocessor, through LlamaIndex's own entry points."""

import copy

from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode
from llama_index.postprocessor.gliclass_rerank import GLiClassRerank

from gliclass_rerank.testing import AdapterConformance


class TestGLiClassRerank(AdapterConformance):
    cutoff = "top_n"

    def build(self, **settings):
        # Without metadata the ranked texts are the passages, so that scores can be compared with the core's.
        return GLiClassRerank(**{"metadata_mode": MetadataMode.NONE, **settings})

    def documents(self, passages, scores, metadata):
        return [
            NodeWithScore(
                node=TextNode(
                    id_=f"doc-{index}", text=text, metadata=copy.deepcopy(metadata), embedding=[0.5, float(index)]
                ),
                score=score,
            )
            for index, (text, score) in enumerate(zip(passages, scores, strict=True))
        ]

    def run(self, adapter, query, documents, **overrides):
        if overrides:
            return adapter.rerank(documents, query, **overrides)
        return adapter.postprocess_nodes(documents, query_str=query)

    async def arun(self, adapter, query, documents, **overrides):
        if overrides:
            return await adapter.arerank(documents, query, **overrides)
        return await adapter.apostprocess_nodes(documents, query_str=query)

    def identity(self, document):
        return document.node.node_id

    def score(self, document):
        return document.score

    def metadata(self, document):
        return document.node.metadata

    def content(self, document):
        return document.node.text, document.node.embedding

    def reload(self, adapter):
        return GLiClassRerank.from_json(adapter.to_json())
