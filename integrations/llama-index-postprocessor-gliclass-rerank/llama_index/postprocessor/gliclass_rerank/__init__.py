"""Rerank LlamaIndex nodes with GLiClass."""

from llama_index.postprocessor.gliclass_rerank.base import GLiClassRerank
from llama_index.postprocessor.gliclass_rerank.examples import LlamaIndexExampleSource, to_node

__all__ = ["GLiClassRerank", "LlamaIndexExampleSource", "to_node"]
