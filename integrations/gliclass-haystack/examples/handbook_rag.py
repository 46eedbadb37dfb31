"""A small RAG pipeline over a handbook of bicycle care: BM25 finds 50 passages, GLiClass keeps 5 for the prompt.

Run it from a checkout, with the core and this package installed; it needs no network:

    python integrations/gliclass-haystack/examples/handbook_rag.py
"""

import os
from pathlib import Path

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "false")

from haystack import Document, Pipeline
from haystack.components.builders import PromptBuilder
from haystack.components.preprocessors import DocumentSplitter
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack_integrations.components.rankers.gliclass import GLiClassRanker

HANDBOOK = Path(__file__).parents[3] / "docs" / "demo" / "handbook.txt"
QUERIES = ("my chain slips when I pedal hard", "why are my hands going to sleep on long rides")
TEMPLATE = """Answer from these passages:
{% for document in documents %}
[{{ loop.index }}] {{ document.content }}
{% endfor %}
Question: {{ question }}"""


def indexed(text: str) -> InMemoryDocumentStore:
    """A store that holds each line of the text as a document."""
    splitter = DocumentSplitter(split_by="line", split_length=1)
    splitter.warm_up()
    chunks = splitter.run(documents=[Document(content=text, meta={"source": HANDBOOK.name})])["documents"]
    store = InMemoryDocumentStore()
    store.write_documents(chunks)
    return store


def rag(store: InMemoryDocumentStore) -> Pipeline:
    """Retriever, ranker, prompt; a generator would follow."""
    pipeline = Pipeline()
    pipeline.add_component("retriever", InMemoryBM25Retriever(store, top_k=50))
    pipeline.add_component("ranker", GLiClassRanker(top_k=5))
    pipeline.add_component("prompt", PromptBuilder(TEMPLATE, required_variables=["documents", "question"]))
    pipeline.connect("retriever.documents", "ranker.documents")
    pipeline.connect("ranker.documents", "prompt.documents")
    return pipeline


def show(title: str, documents: list[Document]) -> None:
    """Print the beginnings of the first five documents."""
    print(f"  {title}:")
    for document in documents[:5]:
        print(f"    {document.score:.3f}  {document.content.strip()[:90]}")


def main() -> None:
    """Print what changes for each query, and the last prompt."""
    pipeline = rag(indexed(HANDBOOK.read_text(encoding="utf-8")))
    for query in QUERIES:
        data = {"retriever": {"query": query}, "ranker": {"query": query}, "prompt": {"question": query}}
        outputs = pipeline.run(data, include_outputs_from={"retriever", "ranker"})
        print(query)
        show("retrieved", outputs["retriever"]["documents"])
        show("reranked", outputs["ranker"]["documents"])
    print(outputs["prompt"]["prompt"])


if __name__ == "__main__":
    main()
