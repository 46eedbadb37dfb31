"""Tools for agents: asked by the SDK's own client, in this process, over a real pipe and over HTTP."""

import asyncio
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time

import pytest
from mcp import Client, StdioServerParameters

from gliclass_rerank import Reranker
from gliclass_rerank.cli.app import main
from gliclass_rerank.mcp.server import build_server

PROGRAM = "import sys; from gliclass_rerank.cli.app import main; sys.exit(main())"
CHAIN, BRAKE = "oil the chain", "brake pad"


@pytest.fixture(scope="module")
def reranker(tiny_folders):
    return Reranker(tiny_folders["bert"], device="cpu")


@pytest.fixture(scope="module")
def server(reranker, classifier):
    return build_server(reranker, classifier)


def asked(server, *calls):
    """Results of calls, each a tool's name and its arguments."""

    async def ask():
        async with Client(server) as client:
            return [await client.call_tool(name, arguments) for name, arguments in calls]

    return asyncio.run(ask())


def test_rerank_ranks_as_the_library_does(server, reranker):
    passages = [BRAKE, CHAIN, "wheel"]
    whole, best, bare = asked(
        server,
        ("rerank", {"query": "chain slips", "passages": passages}),
        ("rerank", {"query": "chain slips", "passages": passages, "top_k": 1}),
        ("rerank", {"query": "chain slips", "passages": passages, "return_texts": False}),
    )

    expected = [
        {"index": hit.index, "score": hit.score, "text": hit.text} for hit in reranker.rank("chain slips", passages)
    ]
    assert whole.structured_content["passages"] == expected
    assert best.structured_content["passages"] == expected[:1]
    assert {passage["text"] for passage in bare.structured_content["passages"]} == {None}
    assert json.loads(whole.content[0].text) == whole.structured_content


def test_low_scores_are_left_out_on_request(server, reranker):
    hits = reranker.rank("chain slips", [BRAKE, CHAIN, "wheel"])
    arguments = {"query": "chain slips", "passages": [BRAKE, CHAIN, "wheel"], "min_score": hits[1].score}
    (found,) = asked(server, ("rerank", arguments))
    assert [each["index"] for each in found.structured_content["passages"]] == [hits[0].index, hits[1].index]


def test_what_was_not_read_is_said(tiny_folders, classifier):
    small = Reranker(tiny_folders["bert"], device="cpu", max_window_tokens=24, long_passages="cut")
    (found,) = asked(build_server(small, classifier), ("rerank", {"query": "chain", "passages": ["oil", "oil " * 99]}))
    assert found.structured_content["shortened"] == [1]


def test_classify_scores_labels_as_the_library_does(server, classifier):
    labels = ["chain", "brake", "wheel"]
    every, one = asked(
        server,
        ("classify", {"text": "the chain slips", "labels": labels}),
        ("classify", {"text": "the chain slips", "labels": labels, "multi_label": False}),
    )
    scores = classifier.classify("the chain slips", labels)[0].scores
    expected = sorted(zip(labels, scores, strict=True), key=lambda each: -each[1])
    assert [(each["label"], each["score"]) for each in every.structured_content["labels"]] == expected
    assert sum(each["score"] for each in one.structured_content["labels"]) == pytest.approx(1)


def test_tools_are_chosen_by_name_and_description(server, reranker):
    tools = [{"name": "fix_chain", "description": "Oil a chain", "inputSchema": {}}, {"name": "pump_tire"}]
    (found,) = asked(server, ("choose_tools", {"request": "the chain slips", "tools": tools}))
    hits = reranker.rank("the chain slips", ["fix chain: Oil a chain", "pump tire"])
    names = ["fix_chain", "pump_tire"]
    assert found.structured_content["tools"] == [{"name": names[hit.index], "score": hit.score} for hit in hits]


@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        ("rerank", {"query": " ", "passages": [CHAIN]}, "`query` must not be blank, got ' '"),
        ("rerank", {"query": "chain", "passages": CHAIN}, "passages\n  Input should be a valid list"),
        ("rerank", {"query": "chain", "passages": [CHAIN], "top_k": 0}, "greater than or equal to 1"),
        ("classify", {"text": "chain", "labels": []}, "at least 1 item"),
        ("choose_tools", {"request": "chain", "tools": [{"description": "x"}]}, "tools.0.name\n  Field required"),
        ("guess", {}, "Unknown tool: guess"),
    ],
)
def test_errors_are_for_the_agent_to_read(server, tool, arguments, expected):
    (found,) = asked(server, (tool, arguments))
    assert found.is_error
    assert expected in found.content[0].text
    assert len(found.content[0].text) < 400


def test_rankings_of_an_agent_go_to_the_log(tiny_folders, classifier, tmp_path):
    with Reranker(tiny_folders["bert"], device="cpu", log=tmp_path / "log.db").log as log:
        logged = Reranker(tiny_folders["bert"], device="cpu", log=tmp_path / "log.db")
        tools = {"request": "chain", "tools": [{"name": "fix"}]}
        asked(
            build_server(logged, classifier),
            ("rerank", {"query": "chain", "passages": [CHAIN]}),
            ("choose_tools", tools),
        )
        assert [ranking.query for ranking in log.rankings()] == ["chain"]


def command(tiny_folders, *arguments):
    models = ["--model", tiny_folders["bert"], "--classifier", tiny_folders["deberta-v2"], "--device", "cpu"]
    return [sys.executable, "-c", PROGRAM, "mcp", *map(str, models), *arguments]


@pytest.mark.slow
def test_stdout_holds_the_protocol_only(tiny_folders, tmp_path):
    written = tmp_path / "stdout"
    line = f"{shlex.join(command(tiny_folders))} | tee {shlex.quote(str(written))}"
    pipe = StdioServerParameters(command="sh", args=["-c", line], env=dict(os.environ))

    async def ask():
        async with Client(pipe) as client:
            assert client.server_info.name == "gliclass-rerank"
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            found = await client.call_tool("rerank", {"query": "chain slips", "passages": [BRAKE, CHAIN]})
            failed = await client.call_tool("rerank", {"query": "", "passages": [CHAIN]})
            return tools, found, failed

    tools, found, failed = asyncio.run(ask())
    assert set(tools) == {"rerank", "classify", "choose_tools"}
    assert all(tool.description and tool.output_schema and tool.annotations.read_only_hint for tool in tools.values())
    assert len(found.structured_content["passages"]) == 2
    assert failed.is_error
    messages = [json.loads(line) for line in written.read_text(encoding="utf-8").splitlines()]
    assert messages
    assert all(message["jsonrpc"] == "2.0" for message in messages)


@pytest.mark.slow
def test_http_serves_the_same_tools_until_ctrl_c(tiny_folders):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(command(tiny_folders, "--http", str(port)), stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        (found,) = asked(f"http://127.0.0.1:{port}/mcp", ("rerank", {"query": "chain", "passages": [BRAKE, CHAIN]}))
        assert len(found.structured_content["passages"]) == 2
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        process.stderr.close()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_server_that_waits_for_its_client(tiny_folders, number):
    process = subprocess.Popen(
        command(tiny_folders), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "me", "version": "1"}},
    }
    process.stdin.write(json.dumps(hello).encode() + b"\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["id"] == 1
    process.send_signal(number)
    assert process.wait(30) in (130, -number)
    process.communicate()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--http", "99999"], "Invalid value for '--http'"),
        (["--model", "no-such-folder/x"], "no-such-folder/x"),
        (["--classifier", "no-such-folder/x", "--model", "minilm-l6-v1"], "no-such-folder/x"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, expected, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["mcp", *arguments]) in (1, 2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1].startswith("error: ")
    assert expected in captured.err
