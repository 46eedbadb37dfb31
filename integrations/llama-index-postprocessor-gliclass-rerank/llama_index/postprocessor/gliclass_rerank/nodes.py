"""Reads LlamaIndex's nodes and makes annotated copies; what it is given never changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle

from gliclass_rerank.adapters import owned, reading


def given_query(query: QueryBundle | None) -> QueryBundle:
    """The query; a `ValueError` if LlamaIndex gives none."""
    if query is None:
        raise ValueError("Missing query bundle in extra info.")
    return query


def node_text(node: NodeWithScore, mode: MetadataMode) -> str:
    """Text of a node; an `InputError` if it cannot be read."""
    with reading("a node's text"):  # metadata are whatever somebody put there
        return node.node.get_content(metadata_mode=mode)


def annotated(found: NodeWithScore, score: float | None, notes: Mapping[str, Any]) -> NodeWithScore:
    """Copy a node, with the notes in its metadata, and with the score unless that is None."""
    node: BaseNode = found.node
    changes = {
        "metadata": {**owned(node.metadata), **notes},
        # What the notes say is for programs: neither the LLM nor an embedding model reads it.
        "excluded_embed_metadata_keys": _with(node.excluded_embed_metadata_keys, notes),
        "excluded_llm_metadata_keys": _with(node.excluded_llm_metadata_keys, notes),
        "relationships": dict(node.relationships),
    }
    return NodeWithScore(node=node.model_copy(update=changes), score=found.score if score is None else score)


def _with(keys: Sequence[str], more: Mapping[str, Any]) -> list[str]:  # Any: only the keys are read
    return [*keys, *(key for key in more if key not in keys)]
