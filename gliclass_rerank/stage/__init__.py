"""Steps of a RAG pipeline: reranking, and pruning of what the LLM reads."""

from gliclass_rerank.stage.pruning import ContextPruner, OnPruningError, PrunedPassage
from gliclass_rerank.stage.stage import OnError, RerankStage

__all__ = ["ContextPruner", "OnError", "OnPruningError", "PrunedPassage", "RerankStage"]
