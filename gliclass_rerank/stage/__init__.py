"""Reranking step of a RAG pipeline."""

from gliclass_rerank.stage.stage import OnError, RerankStage

__all__ = ["OnError", "RerankStage"]
