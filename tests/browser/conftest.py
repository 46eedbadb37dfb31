"""A real Chromium, and servers in processes of their own; `GLICLASS_RERANK` and `CHROMIUM` name the programs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import urllib.request
from contextlib import contextmanager

import pytest
from playwright.sync_api import expect, sync_playwright

KEY = "secret"
# Others may use the processor too.
_PATIENCE_MS = 300_000
expect.set_options(timeout=_PATIENCE_MS)
# Chromium asks its maker's servers on every start otherwise; a container has no sandbox.
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_SETTINGS = ["--model", "minilm-l6-v1", "--device", "cpu", "--backend", "torch", "--port", "0"]


class Server:
    """Address of a server, and its answers without a browser."""

    def __init__(self, url: str):
        self.url = url

    def post(self, path, body):
        request = urllib.request.Request(f"{self.url}{path}", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=300) as response:
            return json.load(response)


@contextmanager
def _served(*arguments, **environment):
    command = os.environ.get("GLICLASS_RERANK")
    if command is None:
        pytest.skip("`GLICLASS_RERANK` does not name a gliclass-rerank to serve with")
    process = subprocess.Popen(
        [command, "serve", *_SETTINGS, *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
    )
    lines = []
    for line in process.stderr:
        lines.append(line)
        if found := re.search(r"ready on (http://\S+)", line):
            break
    else:
        pytest.fail(f"the server ended: {''.join(lines)}")
    threading.Thread(target=process.stderr.read, daemon=True).start()
    try:
        yield Server(found[1])
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A server that learns, without a key."""
    with _served("--example-store", tmp_path_factory.mktemp("store") / "judged.db") as served:
        yield served


@pytest.fixture(scope="session")
def locked():
    """A server that wants the key `KEY`, without a store."""
    with _served("--max-documents", "5", GLICLASS_RERANK_SERVE_API_KEY=KEY) as served:
        yield served


@pytest.fixture(scope="session")
def browser():
    path = os.environ.get("CHROMIUM")
    if not path:
        pytest.skip("there is no Chromium, and it cannot be installed here: apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=_FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser):
    """Open a page; what it complains of, but for an expected `complaint`, and what it fetches from elsewhere fails."""
    complaints, contexts = [], []

    def open_page(server, *, width=1280, height=900, scheme="light", complaint=None):
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(_PATIENCE_MS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("console", lambda message: _note(message, complaints, complaint))
        page.on(
            "request", lambda request: None if request.url.startswith(server.url) else complaints.append(request.url)
        )
        page.goto(server.url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def _note(message, complaints, expected):
    """Keep an error; statuses of answers are none, as the page says what they mean."""
    is_expected = "Failed to load resource" in message.text or (expected is not None and expected in message.text)
    if message.type == "error" and not is_expected:
        complaints.append(message.text)
