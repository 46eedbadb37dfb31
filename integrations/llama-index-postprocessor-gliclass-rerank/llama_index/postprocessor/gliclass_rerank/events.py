"""Events of a reranking, in both of LlamaIndex's event systems."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined] # re-exported without a word
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.schema import NodeWithScore, QueryBundle

_dispatcher = get_dispatcher(__name__)


@contextmanager
def reported(
    callbacks: CallbackManager, nodes: Sequence[NodeWithScore], query: str | QueryBundle, top_n: int, model: str
) -> Iterator[list[NodeWithScore]]:
    """Start and end of a reranking, around what fills the list; a failure ends both, with no nodes.

    Args:
        callbacks: Callback manager of the postprocessor.
        nodes: Nodes to rerank.
        query: Query.
        top_n: Maximum number of nodes returned.
        model: Name of the model.

    Yields:
        List for the reranked nodes.
    """
    outcome: list[NodeWithScore] = []
    payload: dict[str, Any] = {  # Any: the framework's
        EventPayload.NODES: nodes,
        EventPayload.MODEL_NAME: model,
        EventPayload.QUERY_STR: query.query_str if isinstance(query, QueryBundle) else query,
        EventPayload.TOP_K: top_n,
    }
    _dispatcher.event(ReRankStartEvent(query=query, nodes=list(nodes), top_n=top_n, model_name=model))
    try:
        # On failure the context manager ends the event, with the exception as its payload.
        with callbacks.event(CBEventType.RERANKING, payload=payload) as event:
            yield outcome
            event.on_end(payload={EventPayload.NODES: outcome})
    finally:
        _dispatcher.event(ReRankEndEvent(nodes=outcome))
