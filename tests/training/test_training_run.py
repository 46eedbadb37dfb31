import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_checkpoints import encoder_values, tiny_checkpoint, tiny_tokenizer, write_tiny_checkpoint
from training_data import classification_records, ranking_records, tiny_run, write_lines

import gliclass_rerank.learn.training.folder as folder_module
from gliclass_rerank import Reranker
from gliclass_rerank.checkpoint.loading import load_checkpoint, save_checkpoint
from gliclass_rerank.errors import BackendError, CheckpointError, ConfigError
from gliclass_rerank.learn.training import (
    AugmentConfig,
    DevConfig,
    LossConfig,
    SourceConfig,
    StartConfig,
    train,
)
from gliclass_rerank.learn.training.curves import read_rows
from gliclass_rerank.prompt.tokenizer import TextTokenizer


@pytest.fixture
def model(tiny_folders):
    return tiny_folders["bert"]


def weights_of(folder):
    return load_file(folder / "model.safetensors")


def same(first, second):
    first, second = weights_of(first), weights_of(second)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def changed_keys(first, second):
    first, second = weights_of(first), weights_of(second)
    return {key for key in first if not torch.equal(first[key], second[key])}


class Killed(BaseException):
    """Stands for a kill: no `except Exception` may catch it."""


def stop_at(step):
    def look(report):
        if report.step == step and not report.figures:
            raise Killed

    return look


def test_a_run_trains_and_leaves_a_checkpoint_that_loads(tmp_path, model, ranking_file):
    config = tiny_run(tmp_path / "out", model, ranking_file)
    outcome = train(config)
    assert outcome.is_finished
    assert outcome.progress.step == outcome.num_steps == 6
    assert outcome.progress.num_padded >= outcome.progress.num_tokens > 0
    assert changed_keys(model, tmp_path / "out/last")
    assert Reranker(tmp_path / "out/last", device="cpu").rank("bell", ["chain", "oil"])
    rows = read_rows(tmp_path / "out/train.csv")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert sum(row["tokens"] for row in rows) == outcome.progress.num_tokens


def test_the_same_config_gives_the_same_weights(tmp_path, model, ranking_file):
    for name in ("one", "two"):
        train(tiny_run(tmp_path / name, model, ranking_file, dropout=0.1))
    assert same(tmp_path / "one/last", tmp_path / "two/last")
    train(tiny_run(tmp_path / "three", model, ranking_file, dropout=0.1, seed=1))
    assert not same(tmp_path / "one/last", tmp_path / "three/last")


@pytest.mark.parametrize("killed_at", [1, 5])
def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path, model, ranking_file, dev_file, killed_at):
    changes = {"dropout": 0.1, "dev": (DevConfig(path=dev_file, kind="ranking"),), "eval_every": 3}
    whole = tiny_run(tmp_path / "whole", model, ranking_file, **changes)
    train(whole)
    parts = replace(whole, output=tmp_path / "parts")
    with pytest.raises(Killed):
        train(parts, on_report=stop_at(killed_at))
    outcome = train(parts)
    assert outcome.is_finished
    for name in ("last", "best"):
        assert same(tmp_path / "whole" / name, tmp_path / "parts" / name)
    assert (tmp_path / "whole/dev.csv").read_text() == (tmp_path / "parts/dev.csv").read_text()
    losses = [[row["loss"] for row in read_rows(tmp_path / name / "train.csv")] for name in ("whole", "parts")]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 6


def test_a_run_that_dies_between_any_two_renames_goes_on(tmp_path, model, ranking_file, dev_file, monkeypatch):
    changes = {"dev": (DevConfig(path=dev_file, kind="ranking", limit=2),), "eval_every": 2, "steps": 2}
    whole = tiny_run(tmp_path / "whole", model, ranking_file, **changes)
    real, calls = folder_module.os.replace, []

    def replace_until(limit):
        def replacing(source, target):
            calls.append(Path(target))
            if len(calls) > limit:
                raise Killed
            real(source, target)

        return replacing

    monkeypatch.setattr(folder_module.os, "replace", replace_until(10**6))
    train(whole)
    names = [target.name for target in calls]
    assert {"run.json", "dev.csv", "best", ".last.old", "last", "step-000002"} <= set(names)
    for limit in {name: number for number, name in enumerate(names)}.values():
        config = replace(whole, output=tmp_path / f"dies{limit}")
        calls.clear()
        monkeypatch.setattr(folder_module.os, "replace", replace_until(limit))
        with pytest.raises(Killed):
            train(config)
        monkeypatch.setattr(folder_module.os, "replace", real)
        assert train(config).is_finished
        for name in ("last", "best"):
            assert same(tmp_path / "whole" / name, config.output / name)
        assert not list(config.output.rglob(".*")), "nothing half-done is left"


def test_a_budget_stops_the_run_and_calling_again_goes_on(tmp_path, model, ranking_file):
    whole = tiny_run(tmp_path / "whole", model, ranking_file, checkpoint_every=100)
    train(whole)
    parts = replace(whole, output=tmp_path / "parts")
    steps = []
    for _ in range(6):
        outcome = train(parts, minutes=1e-9)
        steps.append(outcome.progress.step)
        assert outcome.is_finished == (outcome.progress.step == 6)
        assert (tmp_path / "parts/last").is_dir()
    assert steps == [1, 2, 3, 4, 5, 6]
    assert same(tmp_path / "whole/last", tmp_path / "parts/last")
    assert train(parts).progress.step == 6


def test_the_best_checkpoint_scores_what_the_curve_says(tmp_path, model, ranking_file, dev_file):
    dev = DevConfig(path=dev_file, kind="ranking")
    outcome = train(tiny_run(tmp_path / "out", model, ranking_file, dev=(dev,), eval_every=2))
    rows = read_rows(tmp_path / "out/dev.csv")
    assert [row["step"] for row in rows] == [0, 2, 4, 6]
    best = max(rows, key=lambda row: row["selected"])
    assert outcome.progress.best_figure == pytest.approx(best["dev.ndcg@10"], abs=1e-6)
    assert outcome.progress.best_step == best["step"]
    reranker = Reranker(tmp_path / "out/best", device="cpu")
    reciprocal = 0.0
    for record in map(json.loads, dev_file.read_text().splitlines()):
        order = [hit.index for hit in reranker.rank(record["query"], record["passages"])]
        reciprocal += 1 / (order.index(record["grades"].index(1)) + 1)
    assert reciprocal / 7 == pytest.approx(best["dev.mrr@10"], abs=1e-6)


def test_patience_stops_early_and_stays_stopped(tmp_path, model, ranking_file, dev_file):
    config = tiny_run(
        tmp_path / "out",
        model,
        ranking_file,
        dev=(DevConfig(path=dev_file, kind="ranking"),),
        eval_every=1,
        patience=2,
        encoder_learning_rate=0.0,  # nothing moves, so no evaluation is better than the first
        head_learning_rate=0.0,
        weight_decay=0.0,
    )
    for _ in range(2):
        outcome = train(config)
        assert outcome.progress.stopped_early
        assert outcome.is_finished
        assert outcome.progress.step == 2
    assert not changed_keys(model, tmp_path / "out/best")


def test_frozen_weights_stay(tmp_path, model, ranking_file):
    train(tiny_run(tmp_path / "out", model, ranking_file, freeze_embeddings=True, frozen_layers=1))
    changed = changed_keys(model, tmp_path / "out/last")
    assert not [key for key in changed if "embeddings" in key or "layer.0." in key]
    assert [key for key in changed if "layer.1." in key]
    assert [key for key in changed if "projector" in key]


def test_each_part_moves_at_its_own_rate(tmp_path, model, ranking_file):
    train(tiny_run(tmp_path / "out", model, ranking_file, encoder_learning_rate=0.0, weight_decay=0.5))
    changed = changed_keys(model, tmp_path / "out/last")
    assert changed
    assert not [key for key in changed if "encoder_model" in key]


@pytest.mark.parametrize("term", ["listwise", "bce", "focal", "mse", "margin_mse", "ranknet", "kl", "contrastive"])
def test_every_loss_trains(tmp_path, model, ranking_file, term):
    teachers = () if term in ("listwise", "contrastive") else ("oracle",)
    loss = LossConfig(name=term, teachers=teachers, temperature=0.5)
    source = SourceConfig(path=ranking_file, kind="ranking", losses=(loss,))
    train(tiny_run(tmp_path / "out", model, ranking_file, sources=(source,), steps=2))
    assert changed_keys(model, tmp_path / "out/last")


@pytest.mark.parametrize("backbone", ["modernbert", "deberta-v2"])
@pytest.mark.parametrize("plan", ["joint", "shared_query"])
def test_every_backbone_and_plan_trains(tmp_path, tiny_folders, ranking_file, dev_file, backbone, plan):
    config = tiny_run(
        tmp_path / "out",
        tiny_folders[backbone],
        ranking_file,
        start=StartConfig(model=str(tiny_folders[backbone]), attention_plan=plan),
        dev=(DevConfig(path=dev_file, kind="ranking", limit=2),),
        eval_every=1,  # what an evaluation computes must not get into a gradient
        steps=2,
    )
    train(config)
    assert load_checkpoint(tmp_path / "out/last").config.attention_plan == plan
    assert changed_keys(tiny_folders[backbone], tmp_path / "out/last")


def test_half_precision_trains_and_every_run_in_a_process_chooses_anew(tmp_path, model, ranking_file):
    for precision in ("bfloat16", "float32", "bfloat16"):
        config = tiny_run(tmp_path / "out", model, ranking_file, precision=precision, steps=2)
        train(config, fresh=True)
        assert {tensor.dtype for tensor in weights_of(tmp_path / "out/last").values()} == {torch.float32}


def test_labels_with_few_shots_and_examples_train(tmp_path, tiny_folders):
    (tmp_path / "labels.json").write_text('["brakes", "chain", "saddle"]')
    write_lines(tmp_path / "train.jsonl", classification_records(30))
    write_lines(tmp_path / "dev.jsonl", classification_records(6, seed=1))
    source = SourceConfig(
        path=tmp_path,
        kind="classification",
        shots=2,
        augment=AugmentConfig(max_examples=2, random_examples=1),
        losses=(LossConfig(name="focal", alpha=0.7), LossConfig(name="contrastive", weight=0.1)),
    )
    config = tiny_run(
        tmp_path / "out",
        tiny_folders["modernbert"],
        tmp_path,
        sources=(source,),
        dev=(DevConfig(path=tmp_path, kind="classification", name="d"),),
        steps=None,
        epochs=2,
    )
    outcome = train(config)
    assert outcome.num_steps == 6  # 3 labels, 2 shots, 2 epochs, 2 a step
    assert set(read_rows(tmp_path / "out/dev.csv")[0]) == {"step", "selected", "d.macro_f1", "d.accuracy"}


def test_the_start_can_be_changed_and_the_checkpoint_says_so(tmp_path, model, ranking_file):
    start = StartConfig(model=str(model), query_attention_start=2, logit_scale=20.0)
    train(tiny_run(tmp_path / "out", model, ranking_file, start=start, head_learning_rate=0.0))
    loaded = load_checkpoint(tmp_path / "out/last")
    assert loaded.config.query_attention_start == 2
    assert loaded.model.logit_scale == 20


def test_a_change_of_the_start_that_nothing_reads_is_refused(tmp_path, ranking_file):
    folder = write_tiny_checkpoint(tmp_path / "model", "modernbert", normalize_features=False)
    with pytest.raises(ConfigError, match="`logit_scale` needs a start model with `normalize_features`"):
        train(tiny_run(tmp_path / "out", folder, ranking_file, start=StartConfig(model=str(folder), logit_scale=2.0)))


def test_the_process_gets_its_settings_back(tmp_path, model, ranking_file):
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global state that must not change
    expected = torch.rand(3), random.random(), np.random.rand()  # noqa: NPY002
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    threads = torch.get_num_threads()
    train(tiny_run(tmp_path / "out", model, ranking_file, dropout=0.1, threads=threads + 1, steps=2))
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.rand(3), expected[0])
    assert (random.random(), np.random.rand()) == expected[1:]  # noqa: NPY002
    assert torch.is_grad_enabled()
    assert not torch.is_autocast_enabled("cpu")


def test_another_runs_folder_is_refused_until_it_is_thrown_away(tmp_path, model, ranking_file):
    config = tiny_run(tmp_path / "out", model, ranking_file, steps=2)
    train(config)
    other = replace(config, seed=1, weight_decay=0.5)
    with pytest.raises(
        ConfigError, match=r"out` holds a run whose config differs in `seed`, `weight_decay`; give anoth"
    ):
        train(other)
    assert train(replace(config, threads=2, keep_checkpoints=1, checkpoint_every=5)).is_finished
    (tmp_path / "out/notes.txt").write_text("mine")
    assert train(other, fresh=True).progress.step == 2
    assert (tmp_path / "out/notes.txt").exists(), "only what a run wrote is thrown away"


def test_examples_change_what_is_learned_within_their_budget(tmp_path, model):
    shown = [{"text": "loose chain", "true_labels": ["oil the chain"], "false_labels": ["ring the bell"]}]
    records = ranking_records(9)
    bare = write_lines(tmp_path / "bare.jsonl", records)
    data = write_lines(tmp_path / "data.jsonl", [{**record, "examples": shown} for record in records])
    for name, path, budget in (("bare", bare, None), ("none", data, 0), ("all", data, None)):
        train(tiny_run(tmp_path / name, model, path, steps=2, max_example_tokens=budget))
    assert same(tmp_path / "bare/last", tmp_path / "none/last")
    assert not same(tmp_path / "bare/last", tmp_path / "all/last")


def test_a_run_of_a_version_that_did_not_know_a_key_goes_on(tmp_path, model, ranking_file):
    config = tiny_run(tmp_path / "out", model, ranking_file)
    with pytest.raises(Killed):
        train(config, on_report=stop_at(3))
    path = tmp_path / "out/run.json"
    run = json.loads(path.read_text())
    del run["config"]["max_example_tokens"]
    path.write_text(json.dumps(run))
    with pytest.raises(ConfigError, match="config differs in `max_example_tokens`"):
        train(replace(config, max_example_tokens=9))
    assert train(config).progress.step == config.steps


def test_data_that_has_changed_is_noticed(tmp_path, model):
    data = write_lines(tmp_path / "data.jsonl", ranking_records(4))
    config = tiny_run(tmp_path / "out", model, data, steps=1)
    train(config)
    write_lines(data, ranking_records(5))
    with pytest.raises(ConfigError, match=r"holds a run whose data differs: not the size they were `0: data\.jsonl`"):
        train(config)


def test_a_config_that_does_not_work_takes_no_folder_and_empties_none(tmp_path, model, ranking_file):
    config = tiny_run(tmp_path / "out", model, ranking_file, steps=1)
    for fresh in (False, True):
        with pytest.raises(ConfigError, match="`frozen_layers` must be at most"):
            train(replace(config, frozen_layers=99), fresh=fresh)
        assert (tmp_path / "out").exists() == fresh
        train(config)
    assert (tmp_path / "out/last").is_dir()


def test_a_folder_of_something_else_is_left_alone(tmp_path, model, ranking_file):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("x")
    for fresh in (False, True):
        with pytest.raises(ConfigError, match="is not empty and holds no training run"):
            train(tiny_run(tmp_path / "out", model, ranking_file), fresh=fresh)
    assert (tmp_path / "out/thesis.txt").exists()


def test_only_the_newest_states_are_kept(tmp_path, model, ranking_file):
    train(tiny_run(tmp_path / "out", model, ranking_file, checkpoint_every=1, keep_checkpoints=2))
    assert sorted(entry.name for entry in (tmp_path / "out/states").iterdir()) == ["step-000005", "step-000006"]


def test_nothing_that_is_written_is_a_pickle(tmp_path, model, ranking_file):
    train(tiny_run(tmp_path / "out", model, ranking_file))
    suffixes = {path.suffix for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert suffixes == {".json", ".safetensors", ".csv"}


def test_a_state_that_cannot_be_read_is_an_error_that_says_what_to_do(tmp_path, model, ranking_file):
    config = tiny_run(tmp_path / "out", model, ranking_file)
    with pytest.raises(Killed):
        train(config, on_report=stop_at(5))
    (tmp_path / "out/states/step-000004/optimizer.safetensors").write_bytes(b"x" * 99)
    with pytest.raises(CheckpointError, match=r"step-000004` cannot be read \(.*\); delete it to resume from an older"):
        train(config)
    shutil.rmtree(tmp_path / "out/states/step-000004")
    assert train(config).is_finished


def test_a_loss_that_is_no_number_stops_the_run_before_the_weights_are_lost(tmp_path, model, ranking_file):
    config = tiny_run(tmp_path / "out", model, ranking_file, encoder_learning_rate=1e38, head_learning_rate=1e38)
    with pytest.raises(BackendError, match=r"the loss of step \d is .*; lower the learning rates"):
        train(config)


def test_reports_tell_pace_and_time_left(tmp_path, model, ranking_file, dev_file):
    reports = []
    dev = DevConfig(path=dev_file, kind="ranking", limit=2)
    train(tiny_run(tmp_path / "out", model, ranking_file, dev=(dev,), eval_every=3), on_report=reports.append)
    steps = [report.step for report in reports if not report.figures]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert [report.step for report in reports if report.figures] == [0, 3, 6]
    measured = reports[-1]
    assert measured.padded_tokens_per_second >= measured.tokens_per_second > 0
    assert measured.seconds_left == 0
    assert reports[1].seconds_left > 0


def test_curves_are_drawn(tmp_path, model, ranking_file, dev_file):
    pytest.importorskip("matplotlib")
    dev = DevConfig(path=dev_file, kind="ranking", limit=2)
    train(tiny_run(tmp_path / "out", model, ranking_file, dev=(dev,), steps=2, plot=True))
    assert (tmp_path / "out/curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_wrong_budget_is_refused(tmp_path, model, ranking_file):
    with pytest.raises(ConfigError, match="`minutes` must be above 0, got 0"):
        train(tiny_run(tmp_path / "out", model, ranking_file), minutes=0)


@pytest.mark.parametrize("architecture", ["bi-encoder", "bi-encoder-fused"])
def test_bi_encoders_train_with_both_their_encoders(tmp_path, ranking_file, architecture):
    checkpoint = tiny_checkpoint(
        "modernbert",
        architecture_type=architecture,
        label_model_config=encoder_values("bert"),
        use_segment_embeddings=False,
    )
    labels = replace(checkpoint, label_tokenizer=TextTokenizer(tiny_tokenizer()))
    save_checkpoint(labels, tmp_path / "model")
    losses = (LossConfig(name="listwise"), LossConfig(name="contrastive"))
    source = SourceConfig(path=ranking_file, kind="ranking", losses=losses)
    train(tiny_run(tmp_path / "out", tmp_path / "model", ranking_file, sources=(source,), steps=2, frozen_layers=1))
    changed = changed_keys(tmp_path / "model", tmp_path / "out/last")
    for encoder in ("encoder_model", "label_encoder"):
        assert [key for key in changed if encoder in key]
        assert not [key for key in changed if encoder in key and "embeddings" in key]


@pytest.mark.parametrize("packed", [False, True])
def test_passages_longer_than_the_limit_are_cut(model, tmp_path, packed):
    records = ranking_records(8)
    for record in records:
        record["passages"] = [f"{passage} {'saddle ' * 300}" for passage in record["passages"]]
    data = write_lines(tmp_path / "long.jsonl", records)
    dev = DevConfig(path=data, kind="ranking")

    train(tiny_run(tmp_path / "run", model, data, packed=packed, dev=(dev,), max_window_tokens=64))

    assert all(np.isfinite(float(row["loss"])) for row in read_rows(tmp_path / "run" / "train.csv"))
