"""Loading, once and off the event loop, and letting go."""

import asyncio
import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from haystack import Document
from haystack_integrations.components.rankers.gliclass import GLiClassRanker

import gliclass_rerank.reranker
from gliclass_rerank import CheckpointError
from gliclass_rerank.testing import PASSAGES, QUERY, shared_reranker


@pytest.fixture
def loads(monkeypatch):
    """Weak references to the models that were loaded; loading takes a moment longer."""
    references, real = [], gliclass_rerank.reranker.Reranker

    def noted(**settings):
        time.sleep(0.1)  # a window for a second load to begin
        reranker = real(**{"device": "cpu", **settings})
        references.append(weakref.ref(reranker))
        return reranker

    monkeypatch.setattr(gliclass_rerank.reranker, "Reranker", noted)
    return references


def documents():
    return [Document(content=passage) for passage in PASSAGES]


async def turns_while(coroutine):
    """Turns that the event loop made while something else was awaited, a millisecond or more each."""
    turns, task = 0, asyncio.ensure_future(coroutine)
    while not task.done():
        turns += 1
        await asyncio.sleep(0.001)
    await task
    return turns


def test_the_constructor_loads_nothing(loads):
    GLiClassRanker()
    assert not loads


def test_eight_threads_that_warm_up_load_one_model(loads):
    ranker, together = GLiClassRanker(), threading.Barrier(8)

    def warm_up(_):
        together.wait()
        ranker.warm_up()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(warm_up, range(8)))
    assert len(loads) == 1


def test_eight_tasks_that_warm_up_load_one_model(loads):
    ranker = GLiClassRanker()

    async def warm_up_together():
        await asyncio.gather(*(ranker.warm_up_async() for _ in range(8)))

    asyncio.run(warm_up_together())
    assert len(loads) == 1


def test_run_warms_up_by_itself_and_once(loads):
    ranker = GLiClassRanker()
    ranker.run(query=QUERY, documents=documents())
    asyncio.run(ranker.run_async(query=QUERY, documents=documents()))
    ranker.warm_up()
    assert len(loads) == 1


@pytest.mark.usefixtures("loads")
def test_the_event_loop_goes_on_while_the_model_is_loaded():
    # In a loop that waits for the model there are one or two turns, however long it takes.
    assert asyncio.run(turns_while(GLiClassRanker().warm_up_async())) > 10


def test_a_closed_ranker_lets_go_of_its_model_and_loads_it_again_when_used(loads):
    ranker = GLiClassRanker()
    ranker.warm_up()
    ranker.close()
    gc.collect()
    assert loads[0]() is None
    assert ranker.run(query=QUERY, documents=documents())["documents"]
    asyncio.run(ranker.close_async())
    gc.collect()
    assert [reference() for reference in loads] == [None, None]


def test_a_given_reranker_outlives_the_ranker_that_is_closed(request):
    ranker = GLiClassRanker(reranker=shared_reranker())
    loads = request.getfixturevalue("loads")  # late, because a given reranker must be an instance of the real class
    ranker.close()
    assert ranker.run(query=QUERY, documents=documents())["documents"]
    assert not loads


def test_warming_up_says_what_is_wrong_with_the_model():
    ranker = GLiClassRanker(model="./no-such-model")
    with pytest.raises(CheckpointError, match="no-such-model"):
        ranker.warm_up()
    with pytest.raises(CheckpointError, match="no-such-model"):
        asyncio.run(ranker.warm_up_async())


def test_warming_up_leaves_a_failure_to_the_run_where_the_order_is_to_be_kept():
    ranker = GLiClassRanker(model="./no-such-model", on_error="keep_order")
    ranker.warm_up()
    found = documents()
    kept = ranker.run(query=QUERY, documents=[*found, found[0]])["documents"]
    assert [document.content for document in kept] == list(dict.fromkeys(PASSAGES))
    assert all("no-such-model" in document.meta["rerank_error"] for document in kept)
