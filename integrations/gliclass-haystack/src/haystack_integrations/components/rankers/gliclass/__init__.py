"""Haystack ranker that reranks documents with GLiClass."""

from haystack_integrations.components.rankers.gliclass.examples import HaystackExampleSource, to_document
from haystack_integrations.components.rankers.gliclass.pruner import GLiClassContextPruner
from haystack_integrations.components.rankers.gliclass.ranker import GLiClassRanker

__all__ = ["GLiClassContextPruner", "GLiClassRanker", "HaystackExampleSource", "to_document"]
