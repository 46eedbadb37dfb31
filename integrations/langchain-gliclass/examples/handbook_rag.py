"""A small RAG over a handbook of bicycle care: BM25 finds 50 passages, GLiClass picks 5, a chat model reads them.

Runs offline from a checkout of gliclass-rerank:

    pip install . ./integrations/langchain-gliclass bm25s langchain-text-splitters
    python integrations/langchain-gliclass/examples/handbook_rag.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bm25s
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_gliclass import GLiClassRerank, GLiClassRerankRetriever
from langchain_text_splitters import RecursiveCharacterTextSplitter

HANDBOOK = Path(__file__).parents[3] / "docs" / "demo" / "handbook.txt"
QUERIES = ("my chain slips when I pedal hard", "why are my hands going to sleep on long rides")


class BM25Retriever(BaseRetriever):
    """BM25 over chunks; leaves its score under the metadata key `bm25`."""

    chunks: list[Document]
    index: Any  # bm25s.BM25
    k: int = 50

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:  # noqa: ARG002
        tokens = bm25s.tokenize(query, stopwords="en", show_progress=False)
        found, scores = self.index.retrieve(tokens, k=min(self.k, len(self.chunks)), show_progress=False)
        return [
            chunk.model_copy(update={"metadata": {**chunk.metadata, "bm25": float(score)}})
            for chunk, score in zip([self.chunks[position] for position in found[0]], scores[0], strict=True)
        ]


def indexed(handbook: Path) -> BM25Retriever:
    """A retriever over the chunks of a file with one passage a line."""
    lines = handbook.read_text(encoding="utf-8").splitlines()
    passages = [Document(page_content=line, metadata={"line": number}) for number, line in enumerate(lines, start=1)]
    chunks = RecursiveCharacterTextSplitter(chunk_size=400, chunk_overlap=0).split_documents(passages)
    texts = [chunk.page_content for chunk in chunks]
    index = bm25s.BM25()
    index.index(bm25s.tokenize(texts, stopwords="en", show_progress=False), show_progress=False)
    return BM25Retriever(chunks=chunks, index=index)


def show(title: str, documents: list[Document], key: str) -> None:
    """Print a ranking, a line a document."""
    print(f"  {title}")
    for document in documents:
        print(f"    {document.metadata[key]:6.3f}  line {document.metadata['line']:2}  {document.page_content[:80]}")


def main() -> None:
    """Ask the handbook both queries."""
    bm25 = indexed(HANDBOOK)
    retriever = GLiClassRerankRetriever(base_retriever=bm25, reranker=GLiClassRerank(), top_n=5)
    prompt = ChatPromptTemplate.from_template("Answer from these passages:\n{context}\n\nQuestion: {question}")
    chat = FakeListChatModel(responses=["(a chat model of yours answers here)"])
    answer = prompt | chat | StrOutputParser()
    for query in QUERIES:
        documents = retriever.invoke(query)
        print(query)
        show("BM25 alone", bm25.invoke(query)[:5], "bm25")
        show("reranked", documents, "relevance_score")
        context = "\n".join(document.page_content for document in documents)
        print(f"  answer: {answer.invoke({'context': context, 'question': query})}\n")


if __name__ == "__main__":
    main()
