"""Reranking step of a RAG pipeline, and the policy for everything that a pipeline can meet."""

from gliclass_rerank.stage.stage import OnError, RerankStage

__all__ = ["OnError", "RerankStage"]
