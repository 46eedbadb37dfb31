"""Rerank LlamaIndex nodes with GLiClass."""

from llama_index.postprocessor.gliclass_rerank.base import GLiClassRerank
from llama_index.postprocessor.gliclass_rerank.examples import LlamaIndexExampleSource, to_node
from llama_index.postprocessor.gliclass_rerank.pruning import GLiClassContextPruner

__all__ = ["GLiClassContextPruner", "GLiClassRerank", "LlamaIndexExampleSource", "to_node"]
