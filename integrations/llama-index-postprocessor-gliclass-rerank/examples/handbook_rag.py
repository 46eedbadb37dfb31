"""A complete small RAG over a handbook of bicycle care, offline: BM25 finds 50 chunks, GLiClass keeps the best 5.

From a checkout, in an environment with this package:

    pip install llama-index-retrievers-bm25
    python integrations/llama-index-postprocessor-gliclass-rerank/examples/handbook_rag.py

`MockLLM` answers with the prompt that it was given; put a real LLM in its place.
"""

from collections.abc import Sequence
from pathlib import Path

from llama_index.core import Document
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import NodeWithScore
from llama_index.postprocessor.gliclass_rerank import GLiClassRerank
from llama_index.retrievers.bm25 import BM25Retriever

HANDBOOK = Path(__file__).resolve().parents[3] / "docs" / "demo" / "handbook.txt"
QUERIES = ("my chain slips when I pedal hard", "why are my hands going to sleep on long rides")


def read_documents() -> list[Document]:
    """One document a passage; its number is for programs, neither embedded nor shown to the LLM."""
    return [
        Document(
            text=passage,
            metadata={"passage": number},
            excluded_embed_metadata_keys=["passage"],
            excluded_llm_metadata_keys=["passage"],
        )
        for number, passage in enumerate(HANDBOOK.read_text().splitlines(), start=1)
    ]


def build_engine(reranker: GLiClassRerank) -> RetrieverQueryEngine:
    """Chunks in BM25, 50 of them retrieved, reranked and put into the prompt."""
    chunks = SentenceSplitter(chunk_size=64, chunk_overlap=0).get_nodes_from_documents(read_documents())
    retriever = BM25Retriever.from_defaults(nodes=chunks, similarity_top_k=50)
    return RetrieverQueryEngine.from_args(retriever, llm=MockLLM(), node_postprocessors=[reranker])


def show(title: str, nodes: Sequence[NodeWithScore]) -> None:
    """Print the nodes, one a line."""
    print(f"  {title}")
    for node in nodes:
        print(f"    {node.score:6.3f}  passage {node.metadata['passage']:2}  {node.text[:80]}")


def main() -> None:
    """Print both queries' chunks before and after reranking, and what the LLM gets to read."""
    reranker = GLiClassRerank(device="cpu", top_n=5, keep_retrieval_score=True)
    engine = build_engine(reranker)
    for query in QUERIES:
        print(f"\n{query}")
        found = engine.retriever.retrieve(query)
        show("BM25", found[:5])
        response = engine.query(query)
        show("GLiClass", response.source_nodes)
    print(f"\nThe last prompt:\n\n{response}")


if __name__ == "__main__":
    main()
