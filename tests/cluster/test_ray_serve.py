"""The Ray Serve application: the server's routes, 429 when too many wait, more replicas under load, models swapped."""

import http.client
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import PATIENCE_S
from ray import serve
from ray.serve._private import api, client
from tiny_checkpoints import WORDS, write_tiny_checkpoint

from gliclass_rerank import Reranker
from gliclass_rerank.ray import app

PORT = 18431
BODY = {"query": "chain slips", "documents": ["oil the chain", "wax", "a worn cog"], "model": "m"}
_OPTIONS = {"backend": "torch", "num_cpus": 0.2, "threads": 1, "cache_bytes": 0}


def post(path, body):
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=300)
    try:
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        response = connection.getresponse()
        content = response.read()
        is_json = response.headers["content-type"].startswith("application/json")  # Ray's own refusals are not
        return response.status, dict(response.headers), json.loads(content) if is_json else content.decode()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def other_model(tmp_path_factory):
    return str(write_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "modernbert", "modernbert"))


@pytest.fixture(scope="module")
def deploy(cluster):
    """Deploys the application as `serve deploy` does, with its arguments."""
    for module in (api, client):  # a minute, and there is no setting for it
        module.HTTP_PROXY_TIMEOUT = PATIENCE_S
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})

    def deployed(**arguments):
        serve.run(app({**_OPTIONS, **arguments}), name="reranker", route_prefix="/", blocking=False)
        deadline = time.monotonic() + PATIENCE_S
        while isinstance(post("/v2/rerank", {})[2], str):  # Ray's proxy learns the routes a moment later
            assert time.monotonic() < deadline
            time.sleep(0.1)

    yield deployed
    serve.shutdown()


def scores_of(model):
    ranking = Reranker(model, device="cpu", backend="torch", threads=1).rank(BODY["query"], BODY["documents"])
    return {hit.index: pytest.approx(hit.score, abs=1e-6) for hit in ranking}


def found_scores(answer):
    return {each["index"]: each["relevance_score"] for each in answer["results"]}


def test_routes_and_scores_are_those_of_the_server(deploy, model):
    deploy(model=f"tiny={model}", max_replicas=1)

    status, headers, answer = post("/v2/rerank", BODY)
    assert (status, answer["model"]) == (200, "tiny")
    assert found_scores(answer) == scores_of(model)
    assert "x-inference-time" in headers
    assert post("/tei/rerank", {"query": "chain", "texts": ["oil"]})[0] == 200
    status, _, answer = post("/v2/rerank", {"query": " ", "documents": ["a"]})
    assert (status, answer) == (400, {"message": "`query` must not be blank, got ' '"})


def test_a_model_is_swapped_without_an_error(deploy, model, other_model):
    deploy(model=f"tiny={model}", max_replicas=1)
    statuses, models, stop = [], [], threading.Event()

    def ask():
        while not stop.is_set():
            status, _, answer = post("/v2/rerank", BODY)
            statuses.append(status)
            models.append(answer.get("model"))

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        deploy(model=f"new={other_model}", max_replicas=1)
        deadline = time.monotonic() + 120
        while models[-1:] != ["new"] and time.monotonic() < deadline:
            time.sleep(0.1)
        stop.set()
        for each in asking:
            each.result()

    assert set(statuses) == {200}
    assert models[-1] == "new"
    assert found_scores(post("/v2/rerank", BODY)[2]) == scores_of(other_model)


def test_too_many_requests_are_answered_with_429_and_retry_after(deploy, model):
    deploy(model=f"tiny={model}", max_replicas=1, max_ongoing_requests=1, max_queued_requests=1, retry_after=7)
    documents = [" ".join(WORDS[start % 50 :] * 8) for start in range(400)]

    with ThreadPoolExecutor(12) as pool:
        answers = list(
            pool.map(
                lambda number: post("/v2/rerank", {**BODY, "query": f"chain {number}", "documents": documents}),
                range(12),
            )
        )

    statuses = [status for status, _, _ in answers]
    assert set(statuses) == {200, 429}
    refused = next(headers for status, headers, _ in answers if status == 429)
    assert {name.lower(): value for name, value in refused.items()}["retry-after"] == "7"


@pytest.mark.slow
def test_replicas_are_added_under_load(deploy, model):
    deploy(model=f"tiny={model}", min_replicas=1, max_replicas=2, target_ongoing_requests=1)
    documents = [" ".join(WORDS[start % 50 :] * 4) for start in range(100)]
    stop = threading.Event()

    def ask(number):
        while not stop.is_set():
            post("/v2/rerank", {**BODY, "query": f"chain {number} {time.monotonic()}", "documents": documents})

    with ThreadPoolExecutor(8) as pool:
        for number in range(8):
            pool.submit(ask, number)
        deadline = time.monotonic() + 300
        while (count := running_replicas()) < 2 and time.monotonic() < deadline:
            time.sleep(1)
        stop.set()

    assert count == 2


def running_replicas():
    (deployment,) = serve.status().applications["reranker"].deployments.values()
    return deployment.replica_states.get("RUNNING", 0)
