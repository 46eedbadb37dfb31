"""Probes, metrics, logs, keys, CORS, cancelled and last requests of a server."""

import http.client
import json
import logging
import socket
import threading
import time
from contextlib import closing

import pytest
from running import running

from gliclass_rerank.serve.logs import _JsonFormatter, _TextFormatter
from gliclass_rerank.serve.models import ServedModel

BODY = {"query": "chain slips", "documents": ["oil the chain", "brake"]}


def metrics_of(server):
    lines = server.get("/metrics").body.decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def test_probes_are_answered(server):
    for path in ("/health", "/ping", "/tei/health"):
        assert server.get(path).body["status"] == "ready"


def test_metrics_have_the_names_of_tei(reranker):
    with running(ServedModel("tiny", reranker)) as server:
        server.post("/v2/rerank", BODY)
        server.post("/rerank", BODY)
        server.post("/v2/rerank", {})
        metrics = metrics_of(server)

    assert metrics["te_request_count"] == 3
    assert metrics["te_request_success"] == 2
    assert metrics['te_request_failure{err="invalid"}'] == 1
    assert metrics["te_predict_count"] == 2
    assert metrics["gliclass_rerank_cache_hits_total"] == 1
    assert metrics["gliclass_rerank_passages_total"] == 4
    assert metrics["te_queue_size"] == metrics["vllm:num_requests_running"] == 0
    assert metrics["te_batch_next_size_count"] == metrics["te_predict_queue_duration_count"] == 1
    assert metrics["te_request_input_length_sum"] == 2 * metrics["vllm:prompt_tokens_total"]
    assert metrics['te_request_duration_count{path="/v2/rerank"}'] == 2


def test_unknown_paths_do_not_make_new_series(reranker):
    with running(ServedModel("tiny", reranker)) as server:
        for number in range(3):
            server.post(f"/random/{number}", {})
        metrics = metrics_of(server)
    assert metrics['te_request_duration_count{path="other"}'] == 3


def test_a_response_tells_its_id_and_times(server):
    headers = server.post("/v2/rerank", BODY, {"x-request-id": "my-id-7"}).headers
    assert headers["x-request-id"] == "my-id-7"
    for name in ("x-total-time", "x-queue-time", "x-inference-time", "x-compute-tokens"):
        assert int(headers[name]) >= 0

    for odd in ("", "x" * 200, "é"):
        headers = server.post("/v2/rerank", BODY, {"x-request-id": odd}).headers
        assert len(headers["x-request-id"]) == 32


def fields_of(caplog):
    return [record.fields for record in caplog.records if record.getMessage() == "request"]


def test_the_log_has_one_line_a_request_without_its_texts(reranker, caplog):
    caplog.set_level(logging.INFO)
    with running(ServedModel("tiny", reranker)) as server:
        server.post("/v2/rerank", BODY)
        server.post("/v2/rerank", {"query": "secret"})
        server.get("/health")

    ranked, refused = fields_of(caplog)
    assert {
        "path": "/v2/rerank",
        "status": 200,
        "model": "tiny",
        "passages": 2,
        "cached": False,
    }.items() <= ranked.items()
    assert refused["status"] == 400
    assert "oil" not in json.dumps([ranked, refused])
    assert "secret" not in json.dumps([ranked, refused])


def test_the_log_has_texts_if_asked_to(reranker, caplog):
    caplog.set_level(logging.INFO)
    with running(ServedModel("tiny", reranker), log_request_texts=True) as server:
        server.post("/v2/rerank", BODY)
    assert fields_of(caplog)[0]["body"] == BODY


def test_log_lines_are_text_or_json():
    record = logging.LogRecord("a", logging.INFO, "", 0, "request", (), None)
    record.fields = {"path": "/x\n", "status": 200}
    assert _TextFormatter().format(record).endswith('INFO request path="/x\\n" status=200')
    line = json.loads(_JsonFormatter().format(record))
    assert {"level": "info", "message": "request", "path": "/x\n", "status": 200}.items() <= line.items()


def test_keys_are_needed_for_everything_but_probes(reranker):
    with running(ServedModel("tiny", reranker), api_key=("first", "second")) as server:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "first"}, {"x-api-key": "firs"}):
            answer = server.post("/v2/rerank", BODY, headers)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert answer.body == {"message": "a valid API key is needed, as `Authorization: Bearer KEY`"}
            for path in ("/metrics", "/v1/models", "/info"):
                assert server.get(path, headers).status == 401
        for headers in ({"authorization": "Bearer first"}, {"authorization": "bearer second"}, {"x-api-key": "first"}):
            assert server.post("/v2/rerank", BODY, headers).status == 200
            assert server.get("/metrics", headers).status == 200
        assert server.get("/health").status == 200
        assert server.get("/openapi.json").status == 200


def test_pages_of_other_origins_may_ask_only_if_named(reranker):
    origin = {"origin": "https://app.example"}
    with running(ServedModel("tiny", reranker)) as server:
        assert "access-control-allow-origin" not in server.post("/v2/rerank", BODY, origin).headers
    with running(ServedModel("tiny", reranker), cors_origin=("https://app.example",)) as server:
        assert server.post("/v2/rerank", BODY, origin).headers["access-control-allow-origin"] == origin["origin"]
        other = server.post("/v2/rerank", BODY, {"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


@pytest.fixture
def slow(scripted):
    """A model that takes half a second a query."""
    reranker, network = scripted({"oil": 1.0}, pause_s=0.5)
    return ServedModel("slow", reranker), network


def start(server, query):
    """Send a request without waiting for its answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", "/v2/rerank", json.dumps({"query": query, "documents": ["oil"]}))
    return connection


def finished(connection):
    """Status of what was started."""
    with closing(connection), connection.getresponse() as response:
        return response.status


def test_more_requests_than_may_wait_are_told_when_to_come_back(slow):
    model, _ = slow
    with running(model, slots=1, max_waiting=1) as server:
        first = start(server, "a")
        until(lambda: metrics_of(server)["vllm:num_requests_running"] == 1)
        second = start(server, "b")
        until(lambda: metrics_of(server)["te_queue_size"] == 1)
        refused = server.post("/v2/rerank", {"query": "c", "documents": ["oil"]})
        tei = server.post("/tei/rerank", {"query": "c", "texts": ["oil"]})
        statuses = [finished(connection) for connection in (first, second)]

    assert refused.status == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert (tei.status, tei.body["error_type"]) == (429, "Overloaded")
    assert statuses == [200, 200]


def test_a_client_that_hangs_up_leaves_the_queue(slow):
    model, network = slow
    with running(model, slots=1) as server:
        first = start(server, "a")
        until(lambda: metrics_of(server)["vllm:num_requests_running"] == 1)
        gone = start(server, "b")
        until(lambda: metrics_of(server)["te_queue_size"] == 1)
        gone.close()
        until(lambda: metrics_of(server)["te_queue_size"] == 0)
        assert finished(first) == 200
        assert metrics_of(server)['te_request_failure{err="gone"}'] == 1

    assert len(network.scored) == 1


def test_requests_that_run_at_the_end_are_answered(slow):
    model, _ = slow
    answers = []
    with running(model, slots=1) as server:
        running_one, waiting_one = start(server, "a"), start(server, "b")
        until(lambda: metrics_of(server)["te_queue_size"] == 1)
        readers = [
            threading.Thread(target=lambda each=each: answers.append(finished(each)))
            for each in (running_one, waiting_one)
        ]
        for reader in readers:
            reader.start()
    for reader in readers:
        reader.join()
    assert answers == [200, 200]
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", server.port)):
        pass


def test_spans_follow_the_genai_convention(reranker):
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    export = pytest.importorskip("opentelemetry.sdk.trace.export")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    from opentelemetry import trace

    kept, provider = memory.InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(kept))
    trace.set_tracer_provider(provider)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with running(ServedModel("tiny", reranker), tracing=True) as server:
        server.post("/v2/rerank", {**BODY, "model": "m", "top_n": 1}, {"traceparent": parent})

    (span,) = (span for span in kept.get_finished_spans() if span.name == "rerank")
    assert span.context.trace_id == 0x0AF7651916CD43DD8448EB211C80319C
    expected = {
        "gen_ai.operation.name": "rerank",
        "gen_ai.request.model": "m",
        "gen_ai.response.model": "tiny",
        "gen_ai.rerank.candidate.count": 2,
        "gen_ai.rerank.top_n": 1,
    }
    assert expected.items() <= dict(span.attributes).items()
    assert not any("oil" in str(value) for value in span.attributes.values())
