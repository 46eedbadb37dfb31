"""Both of LlamaIndex's event systems, and its spans, see each rerank begin and end, whatever happens in between."""

import asyncio
from contextlib import contextmanager, suppress

import pytest
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.postprocessor.gliclass_rerank import GLiClassRerank

from gliclass_rerank import CheckpointError

_MISSING = "./no-such-folder/no-such-model"


class Recorded(BaseEventHandler):
    events: list[object]

    @classmethod
    def class_name(cls):
        return "Recorded"

    def handle(self, event, **kwargs):
        if isinstance(event, (ReRankStartEvent, ReRankEndEvent)):
            self.events.append(event)


class RecordedCallbacks(BaseCallbackHandler):
    def __init__(self):
        super().__init__([], [])
        self.starts, self.ends = [], []

    def on_event_start(self, event_type, payload=None, event_id="", parent_id="", **kwargs):
        self.starts.append((event_type, payload, event_id))
        return event_id

    def on_event_end(self, event_type, payload=None, event_id="", **kwargs):
        self.ends.append((event_type, payload, event_id))

    def start_trace(self, trace_id=None):
        pass

    def end_trace(self, trace_id=None, trace_map=None):
        pass


@contextmanager
def recording():
    """Handlers on the root dispatcher: events, and spans that ended or were dropped."""
    root, handler, spans = get_dispatcher(), Recorded(events=[]), SimpleSpanHandler()
    root.add_event_handler(handler)
    root.add_span_handler(spans)
    try:
        yield handler.events, spans
    finally:
        root.event_handlers.remove(handler)
        root.span_handlers.remove(spans)


@pytest.fixture
def callbacks():
    return RecordedCallbacks()


@pytest.fixture(params=["sync", "async"])
def postprocess(request):
    if request.param == "sync":
        return lambda adapter, nodes, query: adapter.postprocess_nodes(nodes, query_str=query)
    return lambda adapter, nodes, query: asyncio.run(adapter.apostprocess_nodes(nodes, query_str=query))


def test_the_dispatcher_gets_a_start_and_an_end(adapter, nodes, query, postprocess):
    with recording() as (events, _):
        ranked = postprocess(adapter(top_n=2), nodes, query)
    start, end = events
    assert isinstance(start, ReRankStartEvent)
    assert isinstance(end, ReRankEndEvent)
    assert (start.query.query_str, start.nodes, start.top_n) == (query, nodes, 2)
    assert end.nodes == ranked
    assert start.span_id is not None
    assert start.span_id == end.span_id


def test_callback_handlers_get_a_start_and_an_end(adapter, nodes, query, postprocess, callbacks):
    ranked = postprocess(adapter(top_n=2, callback_manager=CallbackManager([callbacks])), nodes, query)
    [(start_type, start, start_id)], [(end_type, end, end_id)] = callbacks.starts, callbacks.ends
    assert start_type == end_type == CBEventType.RERANKING
    assert start_id == end_id
    assert start[EventPayload.QUERY_STR] == query
    assert start[EventPayload.TOP_K] == 2
    assert start[EventPayload.NODES] == nodes
    assert end[EventPayload.NODES] == ranked


def test_without_a_cut_off_the_events_say_how_many_nodes_there_are(adapter, nodes, query):
    with recording() as (events, _):
        adapter().postprocess_nodes(nodes, query_str=query)
        adapter(top_n=2).rerank(nodes, query, top_n=1)
    assert [event.top_n for event in events if isinstance(event, ReRankStartEvent)] == [len(nodes), 1]


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "bundled"),
        ({"reranker": {"device": "cpu"}}, "bundled"),
        ({"reranker": {"model": _MISSING}}, _MISSING),
        ({"model": _MISSING}, _MISSING),
    ],
)
def test_the_model_has_a_name_before_it_is_loaded(nodes, query, settings, name):
    with recording() as (events, _), suppress(CheckpointError):
        GLiClassRerank(**settings).postprocess_nodes(nodes, query_str=query)
    assert events[0].model_name == name


def test_a_failure_ends_what_was_begun(nodes, query, postprocess, callbacks):
    adapter = GLiClassRerank(model=_MISSING, callback_manager=CallbackManager([callbacks]))
    with recording() as (events, spans), pytest.raises(CheckpointError):
        postprocess(adapter, nodes, query)
    assert [type(event) for event in events] == [ReRankStartEvent, ReRankEndEvent]
    assert events[1].nodes == []
    assert len(callbacks.starts) == len(callbacks.ends) == 1
    assert isinstance(callbacks.ends[0][1][EventPayload.EXCEPTION], CheckpointError)
    assert not spans.open_spans
    assert [span.id_.split("-")[0].split(".")[0] for span in spans.dropped_spans] == ["GLiClassRerank"] * 2


def test_a_cancelled_call_ends_what_was_begun(nodes, query, callbacks):
    async def cancelled():
        adapter = GLiClassRerank(device="cpu", callback_manager=CallbackManager([callbacks]))
        task = asyncio.ensure_future(adapter.apostprocess_nodes(nodes, query_str=query))
        await asyncio.sleep(0)  # it now waits for the model
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return task.cancelled()

    with recording() as (events, spans):
        assert asyncio.run(cancelled())
    assert [type(event) for event in events] == [ReRankStartEvent, ReRankEndEvent]
    assert len(callbacks.starts) == len(callbacks.ends) == 1
    assert not spans.open_spans


def test_a_kept_order_ends_with_the_nodes(nodes, query):
    adapter = GLiClassRerank(model=_MISSING, on_error="keep_order", top_n=2)
    with recording() as (events, _):
        kept = adapter.postprocess_nodes(nodes, query_str=query)
    assert events[1].nodes == kept
    assert len(kept) == 2


def test_what_is_refused_or_empty_begins_nothing(adapter, nodes, query, postprocess, callbacks):
    postprocessor = adapter(callback_manager=CallbackManager([callbacks]))
    with recording() as (events, _):
        assert postprocess(postprocessor, [], query) == []
        with pytest.raises(ValueError, match="Missing query"):
            postprocessor.postprocess_nodes(nodes)
    assert events == callbacks.starts == callbacks.ends == []


def test_every_entry_point_has_a_span(adapter, nodes, query):
    postprocessor = adapter()
    with recording() as (_, spans):
        postprocessor.postprocess_nodes(nodes, query_str=query)
        asyncio.run(postprocessor.apostprocess_nodes(nodes, query_str=query))
    names = {span.id_.split("-")[0] for span in spans.completed_spans}
    assert names == {
        f"GLiClassRerank.{name}" for name in ("_postprocess_nodes", "rerank", "_apostprocess_nodes", "arerank")
    }
    parents = {span.id_: span.parent_id for span in spans.completed_spans}
    assert sorted(parent is None for parent in parents.values()) == [False, False, True, True]


def test_concurrent_calls_keep_their_events_apart(adapter, nodes, query, callbacks):
    postprocessor = adapter(callback_manager=CallbackManager([callbacks]))

    async def several():
        await asyncio.gather(*(postprocessor.apostprocess_nodes(nodes, query_str=query) for _ in range(4)))

    with recording() as (events, spans):
        asyncio.run(several())
    starts = {event.span_id for event in events if isinstance(event, ReRankStartEvent)}
    assert starts == {event.span_id for event in events if isinstance(event, ReRankEndEvent)}
    assert len(starts) == 4
    assert sorted(event_id for *_, event_id in callbacks.starts) == sorted(event_id for *_, event_id in callbacks.ends)
    assert not spans.open_spans
