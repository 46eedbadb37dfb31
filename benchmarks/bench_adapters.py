"""Question: what does each framework adapter add to a call of the core?

Regime: 200 documents with an embedding of 768 floats each, adapter and core called in turn. The forward pass is taken
out: a `Reranker` that repeats the ranking it computed first, so that what is timed is the adapter, the stage and the
core's call, not the model's noise. Haystack's `Pipeline` deep-copies the inputs of every component; that is timed
through a component that does nothing, with and without embeddings.

    python benchmarks/bench_adapters.py [--repeats N]
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from typing import Any

from harness import interleaved_medians, print_json
from haystack import Document as HaystackDocument
from haystack import Pipeline, component
from haystack_integrations.components.rankers.gliclass import GLiClassRanker
from langchain_core.documents import Document as LangChainDocument
from langchain_gliclass import GLiClassRerank as LangChainRerank
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.gliclass_rerank import GLiClassRerank as LlamaIndexRerank

from gliclass_rerank import Ranking, Reranker

NUM_DOCUMENTS = 200
EMBEDDING_FLOATS = 768
WORDS_PER_PASSAGE = 60
QUERY = "how often should a chain be oiled?"


class RepeatedRanking(Reranker):
    """Answers every call with its first ranking."""

    _first: Ranking | None = None

    def rank(self, query: str, passages: Sequence[str], **options: Any) -> Ranking:  # Any: as in Reranker
        """The ranking of the first call."""
        if self._first is None:
            self._first = super().rank(query, passages, **options)
        return self._first


@component
class Nothing:
    """A component that returns its documents."""

    @component.output_types(documents=list[HaystackDocument])
    def run(self, documents: list[HaystackDocument]) -> dict[str, list[HaystackDocument]]:
        """Return what came in."""
        return {"documents": documents}


def pipeline_of(name: str, node: object) -> Pipeline:
    """A pipeline with one component."""
    pipeline = Pipeline()
    pipeline.add_component(name, node)
    return pipeline


def runs(reranker: Reranker, passages: Sequence[str]) -> dict[str, Callable[[], object]]:
    """What is timed, by name; documents are made once."""
    rng = random.Random(3)
    vectors = [[rng.random() for _ in range(EMBEDDING_FLOATS)] for _ in passages]
    metadata = {"source": "handbook", "tags": ["a", "b"]}
    langchain = [
        LangChainDocument(text, id=str(i), metadata={**metadata, "vector": vectors[i]})
        for i, text in enumerate(passages)
    ]
    nodes = [
        NodeWithScore(node=TextNode(id_=str(i), text=text, metadata=dict(metadata), embedding=vectors[i]), score=1.0)
        for i, text in enumerate(passages)
    ]
    documents = [
        HaystackDocument(id=str(i), content=text, meta=dict(metadata), embedding=vectors[i])
        for i, text in enumerate(passages)
    ]
    bare = [HaystackDocument(id=str(i), content=text, meta=dict(metadata)) for i, text in enumerate(passages)]
    langchain_adapter = LangChainRerank(reranker=reranker)
    llama_index_adapter = LlamaIndexRerank(reranker=reranker)
    haystack_adapter = GLiClassRanker(reranker=reranker)
    pipeline, idle = pipeline_of("ranker", GLiClassRanker(reranker=reranker)), pipeline_of("nothing", Nothing())
    return {
        "core": lambda: reranker.rank(QUERY, passages),
        "LangChain": lambda: langchain_adapter.compress_documents(langchain, QUERY),
        "LlamaIndex": lambda: llama_index_adapter.postprocess_nodes(nodes, query_str=QUERY),
        "Haystack, component": lambda: haystack_adapter.run(query=QUERY, documents=documents),
        "Haystack, pipeline": lambda: pipeline.run({"ranker": {"query": QUERY, "documents": documents}}),
        "Haystack, pipeline, idle component": lambda: idle.run({"nothing": {"documents": documents}}),
        "Haystack, pipeline, idle component, no embeddings": lambda: idle.run({"nothing": {"documents": bare}}),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=50)
    arguments = parser.parse_args()
    rng = random.Random(7)
    words = [f"word{number}" for number in range(500)]
    passages = [" ".join(rng.choices(words, k=WORDS_PER_PASSAGE)) for _ in range(NUM_DOCUMENTS)]
    medians = interleaved_medians(runs(RepeatedRanking(device="cpu"), passages), repeats=arguments.repeats, warmup=3)
    over = {name: (seconds - medians["core"]) * 1000 for name, seconds in medians.items() if name != "core"}
    print(
        f"{NUM_DOCUMENTS} documents, {EMBEDDING_FLOATS}-float embeddings: milliseconds over the core's call, "
        f"medians of {arguments.repeats}"
    )
    for name, milliseconds in over.items():
        print(f"{name:52}{milliseconds:8.1f}")
    print_json({"benchmark": "adapters", "repeats": arguments.repeats, "milliseconds_over_core": over})


if __name__ == "__main__":
    main()
