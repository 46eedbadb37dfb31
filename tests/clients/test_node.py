"""Clients of npm under Node, against a running server."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import BEST, DOCUMENTS, KEY, QUERY

NODE = Path(__file__).parent / "node"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder with the packages; skipped without Node, and without a registry."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm")
    folder = shutil.copytree(NODE, tmp_path_factory.mktemp("node") / "clients")
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=0", "--loglevel=error"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.skip(f"npm cannot install the clients: {done.stderr.splitlines()[:1]}")
    return folder


def test_cohere_and_the_ai_sdk(url, folder):
    request = {"url": url, "key": KEY, "query": QUERY, "documents": DOCUMENTS}
    command = ["node", "rerank.mjs", json.dumps(request)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)

    assert found["v1"]["results"][0]["index"] == BEST
    assert found["v1"]["results"][0]["document"]["text"] == DOCUMENTS[BEST]
    assert found["v2"]["results"][0]["index"] == BEST
    assert len(found["v2"]["results"]) == 3
    for way in ("sdk", "objects"):
        assert found[way][0]["originalIndex"] == BEST
        assert 0 <= found[way][0]["score"] <= 1
