"""The command `serve`: where its settings come from, what it says when it cannot start, and whole processes."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from gliclass_rerank import Reranker
from gliclass_rerank.cli.app import main
from gliclass_rerank.serve import server
from gliclass_rerank.serve.settings import ServeSettings
from gliclass_rerank.settings import RerankerSettings


@pytest.fixture
def settings_of(monkeypatch):
    """Settings that a command line starts a server with, without starting it."""
    found = []
    monkeypatch.setattr(server, "run", lambda settings, extensions: found.append(settings))

    def parsed(*arguments):
        assert main(["serve", *arguments]) == 0
        return found.pop()

    return parsed


@pytest.fixture(autouse=True)
def _logs_as_before(monkeypatch):
    """A started server takes the process's log over."""
    monkeypatch.setattr(server, "set_up_logs", lambda _: None)


def test_without_options_the_settings_are_the_defaults(settings_of):
    assert settings_of() == ServeSettings()


def test_flags_set_the_server_and_its_models(settings_of):
    settings = settings_of(
        "--model", "minilm-l6-v1", "--model", "mine=/models/mine", "--port", "9", "--backend", "onnx", "--threads", "2"
    )
    assert settings.model == ("minilm-l6-v1", "mine=/models/mine")
    assert settings.port == 9
    assert settings.reranker == RerankerSettings(backend="onnx", threads=2)


def test_flags_go_before_the_environment_and_that_before_the_file(settings_of, monkeypatch, tmp_path):
    file = tmp_path / "serve.toml"
    file.write_text(
        'port = 1\nslots = 3\nmax-age = 0.5\nlog-request-texts = true\nmodel = ["a", "b"]\ndtype = "int8"\n'
    )
    monkeypatch.setenv("GLICLASS_RERANK_SERVE_PORT", "2")
    monkeypatch.setenv("GLICLASS_RERANK_SERVE_API_KEY", "one two")

    settings = settings_of("--config", str(file), "--slots", "4")

    assert (settings.port, settings.slots, settings.max_age, settings.log_request_texts) == (2, 4, 0.5, True)
    assert (settings.model, settings.api_key) == (("a", "b"), ("one", "two"))
    assert settings.reranker.dtype == "int8"


@pytest.mark.parametrize(
    ("arguments", "file", "expected"),
    [
        (["--slots", "5"], None, "`slots` must be at most 4, got 5"),
        (["--workers", "0"], None, "`workers` must be a whole number of at least 1, got 0"),
        (["--max-age", "-1"], None, "`max_age` must not be negative, got -1.0"),
        (["--document-format", "xml"], None, "`document_format` must be one of `object`, `string`, got 'xml'"),
        (["--api-key", " "], None, "`api_key` must not be blank"),
        (["--model", "a=minilm-l6-v1", "--model", "a=minilm-l6-v1"], None, "two models are called 'a'"),
        (["--host", "no.such.host.invalid"], None, "cannot listen on 'no.such.host.invalid', port 8000: "),
        ([], "porth = 1", "`serve.toml` has settings that `serve` does not know: `porth`"),
        ([], "port = [", "`--config` cannot be read: "),
    ],
)
def test_what_cannot_start_is_one_line(capsys, tmp_path, arguments, file, expected):
    if file is not None:
        (tmp_path / "serve.toml").write_text(file)
        arguments = ["--config", str(tmp_path / "serve.toml")]
    elif "--host" not in arguments:
        arguments = [*arguments, "--port", "0", "--device", "cpu"]

    assert main(["serve", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert expected in error


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_model_that_cannot_be_loaded_is_one_line(capsys, workers):
    assert main(["serve", "--model", "no/such/folder/here", "--workers", workers, "--port", "0"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "no/such/folder/here" in error


def test_an_address_in_use_is_told(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--port", str(taken.getsockname()[1])]) == 2
    assert "Address already in use" in capsys.readouterr().err


@contextmanager
def serving(folder, *arguments):
    """A server process with a tiny model; gives the process and its address."""
    code = "import sys; from gliclass_rerank.cli.app import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "serve", "--model", f"tiny={folder}", "--device", "cpu", "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True, env=environment)
    try:
        lines = iter(process.stderr.readline, "")
        yield process, next(found[1] for line in lines if (found := re.search(r"ready on (http://[\d.:]+)", line)))
    finally:
        process.kill()
        process.communicate()


def ask(address, query="chain"):
    body = json.dumps({"query": query, "documents": ["oil the chain", "brake"]}).encode()
    with urllib.request.urlopen(f"{address}/v2/rerank", body, timeout=60) as answer:
        return json.load(answer)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_a_server_in_order(tiny_folders, number, code):
    with serving(tiny_folders["bert"], "--log-format", "json") as (process, address):
        assert ask(address)["model"] == "tiny"
        process.send_signal(number)
        _, log = process.communicate(timeout=30)
        assert process.returncode == code
    requests = [json.loads(line) for line in log.splitlines() if '"request"' in line]
    assert [line["status"] for line in requests] == [200]
    assert "Traceback" not in log


@pytest.mark.slow
def test_a_request_that_outlasts_the_shutdown_is_told_to_come_again(tiny_folders):
    long = {"query": "chain", "documents": [f"oil the chain {number} " * 40 for number in range(2_000)]}
    with serving(tiny_folders["bert"], "--backend", "torch", "--shutdown-timeout", "1") as (process, address):
        with ThreadPoolExecutor(1) as threads:
            asked = threads.submit(urllib.request.urlopen, f"{address}/v2/rerank", json.dumps(long).encode())
            time.sleep(1)
            process.send_signal(signal.SIGTERM)
            with pytest.raises(urllib.error.HTTPError) as found:
                asked.result(60)
        with found.value as answer:
            assert (answer.code, answer.headers["retry-after"]) == (429, "1")
            assert json.load(answer) == {"message": "the server is shutting down"}
        _, log = process.communicate(timeout=30)
        assert process.returncode == 0
    assert "Traceback" not in log


@pytest.mark.slow
def test_workers_share_one_address_and_their_metrics(tiny_folders):
    with serving(tiny_folders["bert"], "--workers", "2") as (process, address):
        for number in range(8):
            ask(address, f"chain {number}")
        with urllib.request.urlopen(f"{address}/metrics", timeout=30) as answer:
            metrics = answer.read().decode()
        assert "\nte_request_count 8.0\n" in metrics
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode == 0


@pytest.mark.slow
def test_a_hangup_swaps_the_model_and_no_request_fails(tiny_folders, tmp_path):
    link = tmp_path / "current"
    link.symlink_to(tiny_folders["bert"])
    models = {name: Reranker(tiny_folders[name], device="cpu") for name in ("bert", "modernbert")}
    expected = {
        name: {hit.index: pytest.approx(hit.score, abs=1e-5) for hit in model.rank("chain", ["oil the chain", "brake"])}
        for name, model in models.items()
    }

    def scores(address):
        return {each["index"]: each["relevance_score"] for each in ask(address)["results"]}

    with serving(link, "--backend", "torch") as (process, address):
        assert scores(address) == expected["bert"]  # and cached from now on
        link.unlink()
        link.symlink_to(tmp_path / "nowhere")
        process.send_signal(signal.SIGHUP)
        time.sleep(1)
        assert scores(address) == expected["bert"]

        link.unlink()
        link.symlink_to(tiny_folders["modernbert"])
        process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 60
        while (found := scores(address)) == expected["bert"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)  # a log line a request, which nobody reads yet, fits into the pipe
        assert found == expected["modernbert"]
        process.send_signal(signal.SIGTERM)
        assert "; the former models go on" in process.communicate(timeout=30)[1]
        assert process.returncode == 0
