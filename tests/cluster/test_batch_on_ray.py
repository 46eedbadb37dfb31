"""`batch --ray`: the rows are those of a job without Ray, whatever happens to workers and driver."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from conftest import NODE, PATIENCE_S
from test_batch import lines_of, row

from gliclass_rerank.batch.run import run_job
from gliclass_rerank.batch.settings import BatchSettings
from gliclass_rerank.cli.app import main
from gliclass_rerank.ray.workers import rank_on_cluster
from gliclass_rerank.settings import RerankerSettings

NUM_ROWS = 120


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text(lines_of([*(row(number) for number in range(NUM_ROWS)), "not json\n"]))
    return path


@pytest.fixture
def expected(source, model, tmp_path):
    """The rows of a job without Ray."""
    target = tmp_path / "expected.jsonl"
    assert main(["batch", "--input", str(source), "--output", str(target), *options(model)]) == 1
    return target.read_bytes()


def options(model):
    return ["--model", model, "--backend", "torch", "--threads", "1", "--part-bytes", "1500"]


def worker_processes():
    return [each for each in psutil.process_iter(["cmdline"]) if "RerankActor" in " ".join(each.info["cmdline"] or [])]


def test_rows_are_those_of_a_job_without_ray(cluster, source, expected, model, tmp_path):
    target = tmp_path / "out.jsonl"

    code = main(["batch", "--input", str(source), "--output", str(target), *options(model), "--ray", cluster.address])

    assert code == 1  # one row has an error
    assert target.read_bytes() == expected


def test_the_parts_of_a_killed_worker_are_ranked_by_another_one(cluster, source, expected, model, tmp_path):
    target, killed = tmp_path / "out.jsonl", []
    settings = BatchSettings(ray=cluster.address, part_bytes=1500)
    rank = rank_on_cluster(settings, RerankerSettings(model, backend="torch", threads=1), ())

    def with_a_kill(parts):
        for number, ranked in enumerate(rank(parts)):
            if number == 2:
                killed.append(worker_processes()[0])
                killed[0].send_signal(signal.SIGKILL)
            yield ranked

    reranker = RerankerSettings(model, backend="torch", threads=1)
    count = run_job(source, target, settings, reranker, (), with_a_kill, progress=lambda total: lambda done: None)

    assert count == (NUM_ROWS + 1, 1)
    assert killed
    assert target.read_bytes() == expected


def test_the_parts_of_a_lost_node_are_ranked_by_those_that_are_left(cluster, source, expected, model, tmp_path):
    target = tmp_path / "out.jsonl"
    lost = cluster.add_node(**NODE)
    cluster.wait_for_nodes(PATIENCE_S)
    settings = BatchSettings(ray=cluster.address, ray_workers=3, part_bytes=1500)
    reranker = RerankerSettings(model, backend="torch", threads=1)

    def with_a_loss(parts):
        for number, ranked in enumerate(rank_on_cluster(settings, reranker, ())(parts)):
            if number == 2:
                cluster.remove_node(lost, allow_graceful=False)
            yield ranked

    count = run_job(source, target, settings, reranker, (), with_a_loss, progress=lambda total: lambda done: None)

    assert count == (NUM_ROWS + 1, 1)
    assert target.read_bytes() == expected


def test_a_job_whose_driver_was_killed_goes_on(cluster, source, expected, model, tmp_path):
    target = tmp_path / "out.jsonl"
    code = "import sys; from gliclass_rerank.cli.app import main; sys.exit(main())"
    arguments = ["batch", "--input", str(source), "--output", str(target), *options(model), "--ray", cluster.address]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments])
    deadline = time.monotonic() + PATIENCE_S
    while not list((tmp_path / "out.jsonl.partial").glob("part-*")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not target.exists()

    assert main(arguments) == 1
    assert target.read_bytes() == expected


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--ray-cpus", "64"], "`ray` has room for no worker: one takes 64 CPUs and 0 GPUs, the cluster has "),
        (["--ray-cpus", "0"], "`ray_workers` must be given if a worker takes neither"),
        (["--model", "/no/such/model"], "a worker of the Ray cluster failed: "),
    ],
)
def test_what_the_cluster_cannot_do_is_one_line(cluster, source, model, tmp_path, capsys, more, message):
    target = tmp_path / "out.jsonl"
    arguments = ["batch", "--input", str(source), "--output", str(target), *options(model), "--ray", cluster.address]

    assert main([*arguments, *more]) in (1, 2)

    assert message in capsys.readouterr().err


def test_usage_statistics_are_off():
    from ray._common.usage.usage_lib import usage_stats_enabled

    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert not usage_stats_enabled()
