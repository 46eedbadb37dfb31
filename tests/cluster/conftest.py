"""A real Ray of two nodes on this machine, of which each has room for one worker."""

from __future__ import annotations

import os
import time

# Before Ray is imported: nothing is sent, and a busy machine gets time to start.
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "300",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "300",
    "OMP_NUM_THREADS": "1",
}
os.environ["PYTHONPATH"] = os.pathsep.join([str(__import__("pathlib").Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])

import pytest
import ray
from ray.cluster_utils import Cluster
from tiny_checkpoints import write_tiny_checkpoint

_NODE = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100_000_000}
_TRIES = 4  # Ray gives a node 30 seconds


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A tiny checkpoint."""
    return str(write_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "bert", "bert"))


@pytest.fixture(scope="session")
def cluster():
    """A head and another node; this process is connected."""
    started = _started()
    ray.init(started.address, log_to_driver=False)
    started.wait_for_nodes()
    yield started
    ray.shutdown()
    started.shutdown()


def _started() -> Cluster:
    for left in reversed(range(_TRIES)):
        cluster = Cluster()
        try:
            cluster.add_node(**_NODE)
            cluster.add_node(**_NODE)
        except Exception:
            cluster.shutdown()
            if not left:
                raise
            time.sleep(1)
        else:
            return cluster
    raise AssertionError("there is a last try")
