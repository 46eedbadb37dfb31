import re

import pytest
import torch
import typer
from safetensors.torch import load_file
from tiny_checkpoints import write_tiny_checkpoint
from training_data import ranking_records, write_lines
from typer.testing import CliRunner

from gliclass_rerank.errors import ConfigError
from gliclass_rerank.learn.training import command


@pytest.fixture
def app():
    app = typer.Typer()
    app.command("train")(command.train)
    app.command("average")(command.average)
    return app


@pytest.fixture
def config(tmp_path, tiny_folders):
    write_lines(tmp_path / "train.jsonl", ranking_records(6))
    write_lines(tmp_path / "dev.jsonl", ranking_records(3, seed=1))
    path = tmp_path / "run.yaml"
    path.write_text(
        f"""
        output: out
        start: {{model: {tiny_folders["bert"]}}}
        sources: [{{path: train.jsonl, kind: ranking, max_candidates: 3}}]
        dev: [{{path: dev.jsonl, kind: ranking}}]
        steps: 2
        queries_per_step: 2
        plot: false
        device: cpu
        """
    )
    return path


def run(app, *arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_training_prints_what_came_out(app, config, tmp_path):
    result = run(app, "train", config)
    assert result.exit_code == 0
    lines = dict(re.split(" {2,}", line, maxsplit=1) for line in result.stdout.splitlines())
    assert lines["steps"] == "2 of 2"
    assert re.fullmatch(r"\d+ \(\d+ with padding\)", lines["tokens"])
    assert int(lines["tokens/s"]) > 0
    assert re.fullmatch(rf"0\.\d{{4}} at step \d: {tmp_path}/out/best", lines["best"])
    assert lines["last"] == f"{tmp_path}/out/last"
    assert re.search(r"step 1/2  loss \d+\.\d+  \d+ tokens/s \(\d+ with padding\)  0:00:\d\d left", result.stderr)
    assert re.search(r"step 2/2  dev.ndcg@10 0\.\d{4}  dev.mrr@10 0\.\d{4}", result.stderr)


def test_a_budget_leaves_a_run_that_the_same_command_ends(app, config):
    result = run(app, "train", config, "--minutes", 1e-9)
    assert "1 of 2" in result.stdout
    assert "not finished: the same command goes on" in result.stderr
    assert "2 of 2" in run(app, "train", config).stdout


def test_fresh_throws_an_earlier_run_away(app, config):
    run(app, "train", config)
    config.write_text(config.read_text().replace("steps: 2", "steps: 1"))
    with pytest.raises(ConfigError, match="start anew with `--fresh`"):
        run(app, "train", config)
    assert "1 of 1" in run(app, "train", config, "--fresh").stdout


def test_average_writes_a_checkpoint(app, tmp_path):
    folders = [write_tiny_checkpoint(tmp_path / name, "bert") for name in ("a", "b")]
    result = run(app, "average", tmp_path / "mean", *folders, "--weight", 1, "--weight", 3, "--dtype", "int8")
    assert result.stdout == f"{tmp_path / 'mean'}\n"
    stored = load_file(tmp_path / "mean/model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.int8, torch.float16}
