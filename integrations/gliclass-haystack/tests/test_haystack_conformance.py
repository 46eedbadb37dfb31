"""What every adapter promises, held by the Haystack ranker; plus its keyword arguments in Haystack's types."""

import copy
import inspect

from haystack import Document, Pipeline
from haystack.utils import ComponentDevice
from haystack_integrations.components.rankers.gliclass import GLiClassRanker

from gliclass_rerank.testing import AdapterConformance


class TestGLiClassRanker(AdapterConformance):
    cutoff = "top_k"

    def build(self, **settings):
        if "device" in settings:
            settings["device"] = ComponentDevice.from_str(settings["device"])
        return GLiClassRanker(**settings)

    def parameters(self):
        return inspect.signature(GLiClassRanker.__init__).parameters

    def documents(self, passages, scores, metadata):
        return [
            Document(
                id=f"doc-{index}",
                content=passage,
                meta=copy.deepcopy(metadata),
                score=score,
                embedding=[0.5, float(index)],
            )
            for index, (passage, score) in enumerate(zip(passages, scores, strict=True))
        ]

    def run(self, adapter, query, documents, **overrides):
        return adapter.run(query=query, documents=documents, **overrides)["documents"]

    async def arun(self, adapter, query, documents, **overrides):
        return (await adapter.run_async(query=query, documents=documents, **overrides))["documents"]

    def identity(self, document):
        return document.id

    def score(self, document):
        return document.score

    def metadata(self, document):
        return document.meta

    def content(self, document):
        return document.content, document.embedding, document.blob, document.sparse_embedding

    def reload(self, adapter):
        pipeline = Pipeline()
        pipeline.add_component("ranker", adapter)
        return Pipeline.loads(pipeline.dumps()).get_component("ranker")
