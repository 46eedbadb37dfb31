"""GLiClass reranking for LangChain."""

from langchain_gliclass.examples import LangChainExampleSource, to_document
from langchain_gliclass.pruning import GLiClassContextPruner
from langchain_gliclass.rerank import GLiClassRerank
from langchain_gliclass.retriever import GLiClassRerankRetriever

__all__ = [
    "GLiClassContextPruner",
    "GLiClassRerank",
    "GLiClassRerankRetriever",
    "LangChainExampleSource",
    "to_document",
]
