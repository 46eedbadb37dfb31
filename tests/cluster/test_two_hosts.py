"""Two hosts: network namespaces with an address each and a cable between them. Needs root and `ip`."""

import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, PATIENCE_S
from test_batch import lines_of, row

from gliclass_rerank.cli.app import main

pytestmark = pytest.mark.slow

HOSTS = {"grr-a": "10.97.31.1", "grr-b": "10.97.31.2"}
COMMAND = [sys.executable, "-c", "import sys; from gliclass_rerank.cli.app import main; sys.exit(main())"]
RAY = [str(Path(sys.executable).with_name("ray"))]


def ip(*arguments):
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True).stdout


@contextmanager
def hosts():
    """Both namespaces, with a cable."""
    with ExitStack() as stack:
        for name in HOSTS:
            ip("netns", "add", name)
            stack.callback(ip, "netns", "del", name)
        ip("link", "add", "grr0", "netns", "grr-a", "type", "veth", "peer", "name", "grr0", "netns", "grr-b")
        for name, address in HOSTS.items():
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "grr0")
            for device in ("lo", "grr0"):
                ip("-n", name, "link", "set", device, "up")
        yield


def on(host, command, folder, **options):
    """Start a command on a host, which has a temporary folder of its own."""
    environment = {**os.environ, **ENVIRONMENT, "RAY_TMPDIR": str(folder)}
    return subprocess.Popen(["ip", "netns", "exec", host, *command], env=environment, text=True, **options)


@pytest.fixture
def two_hosts(tmp_path_factory):
    """The address of a cluster whose head is one host and whose only worker is the other one."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("making network namespaces needs `ip` and root")
    folders = {name: tmp_path_factory.mktemp(name) for name in HOSTS}
    head = [*RAY, "start", "--block", "--head", "--port=6379", "--num-cpus=0", "--include-dashboard=false"]
    other = [*RAY, "start", "--block", f"--address={HOSTS['grr-a']}:6379", "--num-cpus=1"]
    nodes = []
    with hosts():
        try:
            for name, command in (("grr-a", head), ("grr-b", other)):
                address = f"--node-ip-address={HOSTS[name]}"
                nodes.append(on(name, [*command, address, "--object-store-memory=100000000"], folders[name]))
                time.sleep(5)
            yield f"{HOSTS['grr-a']}:6379", folders["grr-a"]
        finally:
            for node in nodes:
                node.terminate()
            for node in nodes:
                node.wait()


def test_a_job_on_one_host_is_ranked_by_the_other(two_hosts, model, tmp_path):
    address, folder = two_hosts
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(lines_of([row(number) for number in range(40)]))
    options = ["--model", model, "--backend", "torch", "--threads", "1", "--part-bytes", "1500"]
    expected = tmp_path / "expected.jsonl"
    assert main(["batch", "--input", str(source), "--output", str(expected), *options]) == 0

    command = [*COMMAND, "batch", "--input", str(source), "--output", str(target), *options, "--ray", address]
    deadline = time.monotonic() + PATIENCE_S
    while True:
        job = on("grr-a", command, folder, stderr=subprocess.PIPE)
        _, error = job.communicate()
        # Until the other host has joined there is no room.
        if not (job.returncode and ("has room for no worker" in error or "cannot connect" in error)):
            break
        assert time.monotonic() < deadline, error
        time.sleep(2)

    assert job.returncode == 0, error
    assert target.read_bytes() == expected.read_bytes()
