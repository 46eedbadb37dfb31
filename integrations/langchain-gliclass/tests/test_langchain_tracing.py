"""What LangChain's callbacks see of the rerank step."""

import asyncio
import json

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.callbacks import AsyncCallbackHandler, AsyncCallbackManager, BaseCallbackHandler
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_gliclass import GLiClassRerank, GLiClassRerankRetriever

from gliclass_rerank.testing import QUERY

NAME = "GLiClassRerank"


class Log:
    """Keeps every event with its run, its parent and its name."""

    def __init__(self):
        self.names, self.parents, self.events = {}, {}, []

    def start(self, kind, given, run):
        self.names[run["run_id"]], self.parents[run["run_id"]] = run["name"], run["parent_run_id"]
        self.events.append((run["name"], f"{kind}_start", given))

    def end(self, kind, given, run):
        self.events.append((self.names[run["run_id"]], kind, given))

    def of(self, name):
        return [(event, given) for event_name, event, given in self.events if event_name == name]

    def parent(self, name):
        return next(self.names[self.parents[run]] for run, run_name in self.names.items() if run_name == name)


class SyncHandler(Log, BaseCallbackHandler):
    def on_chain_start(self, serialized, inputs, **run):
        self.start("chain", inputs, run)

    def on_chain_end(self, outputs, **run):
        self.end("chain_end", outputs, run)

    def on_chain_error(self, error, **run):
        self.end("chain_error", error, run)

    def on_retriever_start(self, serialized, query, **run):
        self.start("retriever", query, run)

    def on_retriever_end(self, documents, **run):
        self.end("retriever_end", documents, run)

    def on_retriever_error(self, error, **run):
        self.end("retriever_error", error, run)


class AsyncHandler(Log, AsyncCallbackHandler):
    async def on_chain_start(self, serialized, inputs, **run):
        self.start("chain", inputs, run)

    async def on_chain_end(self, outputs, **run):
        self.end("chain_end", outputs, run)

    async def on_chain_error(self, error, **run):
        self.end("chain_error", error, run)

    async def on_retriever_start(self, serialized, query, **run):
        self.start("retriever", query, run)

    async def on_retriever_end(self, documents, **run):
        self.end("retriever_end", documents, run)

    async def on_retriever_error(self, error, **run):
        self.end("retriever_error", error, run)


@pytest.fixture(params=[SyncHandler, AsyncHandler])
def log(request):
    return request.param()


@pytest.fixture(params=[ContextualCompressionRetriever, GLiClassRerankRetriever])
def retriever_over(request):
    kind = request.param
    place = "base_compressor" if kind is ContextualCompressionRetriever else "reranker"
    return lambda reranker, base: kind(base_retriever=base, **{place: reranker})


@pytest.fixture(params=["sync", "async"])
def invoke(request):
    """Call a runnable either way."""
    if request.param == "sync":
        return lambda runnable, *args, **kwargs: runnable.invoke(*args, **kwargs)
    return lambda runnable, *args, **kwargs: asyncio.run(runnable.ainvoke(*args, **kwargs))


def test_the_step_is_a_child_of_the_retrievers_run(retriever_over, invoke, log, ready, base):
    retriever = retriever_over(ready(top_n=2), base)
    ranked = invoke(retriever, QUERY, config={"callbacks": [log]})
    assert log.parent(NAME) == log.parent("base") == type(retriever).__name__
    (started, inputs), (ended, outputs) = log.of(NAME)
    assert (started, inputs) == ("chain_start", {"query": QUERY, "num_documents": 5})
    assert ended == "chain_end"
    assert outputs == {
        "ranking": [
            {
                "index": int(document.id.removeprefix("doc-")),
                "relevance_score": document.metadata["relevance_score"],
            }
            for document in ranked
        ]
    }
    json.dumps([inputs, outputs])


def test_a_failure_ends_the_step_and_the_retriever_with_the_error(retriever_over, invoke, log, base):
    retriever = retriever_over(GLiClassRerank(model="./no-such-folder"), base)
    with pytest.raises(Exception, match="no-such-folder") as caught:
        invoke(retriever, QUERY, config={"callbacks": [log]})
    assert [event for event, _ in log.of(NAME)] == ["chain_start", "chain_error"]
    assert log.of(NAME)[1][1] is caught.value
    assert [event for event, _ in log.of(type(retriever).__name__)] == ["retriever_start", "retriever_error"]


def test_a_kept_order_says_so_in_the_trace(retriever_over, invoke, log, base):
    retriever = retriever_over(GLiClassRerank(model="./no-such-folder", on_error="keep_order", top_n=1), base)
    invoke(retriever, QUERY, config={"callbacks": [log]})
    outputs = log.of(NAME)[1][1]
    assert outputs["ranking"] == [{"index": 0, "relevance_score": None}]
    assert "no-such-folder" in outputs["rerank_error"]


def test_every_call_of_a_batch_has_its_step(retriever_over, log, ready, base):
    retriever_over(ready(), base).batch([QUERY] * 4, config={"callbacks": [log]})
    assert sorted(event for event, _ in log.of(NAME)) == ["chain_end"] * 4 + ["chain_start"] * 4


def test_a_step_in_a_lambda_is_the_lambdas_child(log, ready, base):
    reranker = ready()
    step = RunnableLambda(lambda ask: reranker.rerank(ask["documents"], ask["question"]), name="step")
    chain = {"documents": base, "question": RunnablePassthrough()} | step
    chain.invoke(QUERY, config={"callbacks": [log]})
    assert log.parent(NAME) == "step"
    assert len(log.of(NAME)) == 2


def test_a_direct_call_takes_handlers(log, ready, found):
    ready().rerank(found, QUERY, callbacks=[log])
    asyncio.run(ready().arerank(found, QUERY, callbacks=[log]))
    ready().compress_documents(found, QUERY, [log])
    assert [event for event, _ in log.of(NAME)] == ["chain_start", "chain_end"] * 3


def test_the_sync_method_takes_an_async_manager(log, ready, found):
    # As LangChain gives it when it runs a sync method in a worker thread.
    ready().compress_documents(found, QUERY, AsyncCallbackManager.configure(inheritable_callbacks=[log]))
    assert [event for event, _ in log.of(NAME)] == ["chain_start", "chain_end"]


def test_a_subclass_is_traced_by_its_own_name(log, found):
    class HandbookRerank(GLiClassRerank):
        pass

    with pytest.raises(ValueError, match="blank"):
        HandbookRerank().rerank(found, " ", callbacks=[log])
    assert [event for event, _ in log.of("HandbookRerank")] == ["chain_start", "chain_error"]


async def test_a_cancelled_step_is_closed(log, found):
    task = asyncio.ensure_future(GLiClassRerank(device="cpu").arerank(found, QUERY, callbacks=[log]))
    while not log.of(NAME):
        await asyncio.sleep(0)
    await asyncio.sleep(0.1)  # past the handlers, into the loading of the model, which takes longer
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [event for event, _ in log.of(NAME)] == ["chain_start", "chain_error"]


async def test_streamed_events_show_the_step(ready, base):
    retriever = GLiClassRerankRetriever(base_retriever=base, reranker=ready(top_n=1))
    events = [event async for event in retriever.astream_events(QUERY, version="v2")]
    assert [event["event"] for event in events if event["name"] == NAME] == ["on_chain_start", "on_chain_end"]
