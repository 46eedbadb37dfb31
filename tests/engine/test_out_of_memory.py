"""A process whose memory is limited while it ranks."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and figures of Linux")

CODE = """
import json, resource, sys
import torch
from gliclass_rerank import Reranker
torch.set_num_threads(1)
extra, settings = int(sys.argv[1]), json.loads(sys.argv[2])
reranker = Reranker("minilm-l6-v1", device="cpu", batch_tokens=50_000, **{"backend": "torch", **settings})
passages = [f"oil the chain number {number} " * 10 for number in range(32)]
reranker.rank("chain", passages[:2])
if extra:
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + extra * 2**20, resource.RLIM_INFINITY))
result = sorted((hit.index, hit.logit) for hit in reranker.rank("chain", passages))
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(json.dumps(result))
"""


def ran(extra_mib, settings):
    argv = [sys.executable, "-W", "ignore", "-c", CODE, str(extra_mib), json.dumps(settings)]
    # Freed memory goes back, so that the limit is met whatever was freed before.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**18)}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("settings", [{}, pytest.param({"threads": 1}, marks=pytest.mark.slow)])
def test_a_batch_that_does_not_fit_a_cpus_memory_is_halved_and_scores_stay(settings):
    expected, said = ran(0, settings)
    assert "out of memory" not in said

    found, said = ran(8, settings)

    assert "out of memory" in said
    assert [index for index, _ in found] == [index for index, _ in expected]
    assert [logit for _, logit in found] == pytest.approx([logit for _, logit in expected], abs=1e-5)
