"""A server in a process of its own, as a user starts it; `GLICLASS_RERANK` names the command."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading

import pytest

KEY = "secret"
QUERY = "how do I reset my password?"
DOCUMENTS = [
    "Opening hours are 9 to 5 on weekdays.",
    "To reset your password, click 'Forgot password' on the sign-in page.",
    "Passwords must have at least twelve characters.",
]
BEST = 1
_SETTINGS = ["--model", "minilm-l6-v1", "--classifier", "minilm-l6-v1", "--device", "cpu", "--port", "0"]


@pytest.fixture(scope="session")
def url():
    """Address of a server that wants the key `KEY`."""
    command = os.environ.get("GLICLASS_RERANK")
    if command is None:
        pytest.skip("`GLICLASS_RERANK` does not name a gliclass-rerank to serve with")
    environment = {**os.environ, "GLICLASS_RERANK_SERVE_API_KEY": KEY, "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen([command, "serve", *_SETTINGS], stderr=subprocess.PIPE, text=True, env=environment)
    lines = []
    for line in process.stderr:
        lines.append(line)
        if found := re.search(r"ready on (http://\S+)", line):
            break
    else:
        pytest.fail(f"the server ended: {''.join(lines)}")
    threading.Thread(target=process.stderr.read, daemon=True).start()
    yield found[1]
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
