"""A real Ray of two nodes on this machine, of which each has room for one worker."""

from __future__ import annotations

import os
import time

import pytest
from tiny_checkpoints import write_tiny_checkpoint

PATIENCE_S = 300
NODE = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100_000_000}
# Nothing is sent, and a busy machine gets time to start. Ray reads these when it is imported.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_agent_register_timeout_ms": str(1000 * PATIENCE_S),
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": str(PATIENCE_S),
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": str(PATIENCE_S),
    "OMP_NUM_THREADS": "1",
}


def pytest_configure():
    os.environ.update(ENVIRONMENT)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A tiny checkpoint."""
    return str(write_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "bert", "bert"))


@pytest.fixture(scope="session")
def cluster(_patient_start):
    """A head and another node; this process is connected."""
    import ray
    from ray.cluster_utils import Cluster

    started = Cluster()
    started.add_node(**NODE)
    started.add_node(**NODE)
    ray.init(started.address, log_to_driver=False)
    started.wait_for_nodes(PATIENCE_S)
    yield started
    ray.shutdown()
    started.shutdown()


@pytest.fixture(scope="session")
def _patient_start():
    """Ray gives a node 30 seconds to start, and there is no setting for it."""
    from ray._private import services

    get_node = services.get_node

    def found(*arguments):
        try:
            return get_node(*arguments)
        except RuntimeError as error:
            return error

    def patient(*arguments):
        deadline = time.monotonic() + PATIENCE_S
        while isinstance(node := found(*arguments), RuntimeError):
            if time.monotonic() > deadline:
                raise node
            time.sleep(0.5)
        return node

    services.get_node = patient
    yield
    services.get_node = get_node
