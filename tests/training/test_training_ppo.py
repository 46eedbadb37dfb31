"""Stages of PPO for labels. Each fault of upstream's `RLTrainer` has a test here or in those of the pieces."""

import json
import re
import shutil
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_data import classification_records, tiny_run, write_lines

import gliclass_rerank.learn.training.ppo as ppo_module
from gliclass_rerank import BackendError, ConfigError, ZeroShotClassifier
from gliclass_rerank.learn.training import DevConfig, SourceConfig, StartConfig, TrainConfig, train
from gliclass_rerank.learn.training.curves import read_rows
from gliclass_rerank.learn.training.ppo_config import PpoConfig

LABELS = ("brakes", "chain", "saddle")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    lines = [{**record, "all_labels": list(LABELS)} for record in classification_records(12)]
    return write_lines(tmp_path_factory.mktemp("ppo") / "texts.jsonl", lines)


@pytest.fixture
def stage(tmp_path, tiny_folders, texts):
    def make(name="run", **changes):
        source = SourceConfig(path=texts, kind="classification")
        values = {"sources": (source,), "objective": "ppo", "steps": 4, "queries_per_step": 3, **changes}
        return tiny_run(tmp_path / name, tiny_folders["bert"], texts, **values)

    return make


def weights(config, name="last"):
    return load_file(config.output / name / "model.safetensors")


def test_a_stage_runs_to_its_end_with_default_settings(stage, texts):
    """Upstream's default rewards crash, its evaluation names an argument that is gone, and no run ends."""
    config = stage(dev=(DevConfig(path=texts, kind="classification", name="own"),), eval_every=2)

    assert train(config).is_finished

    assert [row["step"] for row in read_rows(config.output / "dev.csv")] == [0, 2, 4]
    assert all(0 <= row["reward"] <= 1 for row in read_rows(config.output / "train.csv"))


@pytest.mark.slow
def test_a_model_learns_labels_from_rewards(stage, texts):
    dev = (DevConfig(path=texts, kind="classification", name="own"),)
    rates = {"encoder_learning_rate": 1e-3, "head_learning_rate": 1e-3}
    config = stage(dev=dev, steps=200, queries_per_step=6, ppo=PpoConfig(samples=32, kl_weight=0), **rates)

    train(config)

    first, last = read_rows(config.output / "dev.csv")
    assert last["own.macro_f1"] > first["own.macro_f1"] + 0.1


def test_epochs_may_be_a_fraction_and_the_rate_has_a_schedule(stage):
    """Upstream's `range(num_train_epochs)` fails on its own default 3.0, and its rate is constant."""
    config = stage(steps=None, epochs=1.5)

    assert train(config).num_steps == 6

    factors = [row["rate_factor"] for row in read_rows(config.output / "train.csv")]
    assert factors[-1] < factors[1]


def test_the_last_weights_are_those_after_the_last_step(stage, tiny_folders):
    """Upstream saves its final model at step 0."""
    config = stage()
    train(config)
    start = load_file(tiny_folders["bert"] / "model.safetensors")

    assert any(not torch.equal(start[name], tensor) for name, tensor in weights(config).items())
    assert (config.output / "states/step-000004").is_dir()


def test_an_error_ends_the_stage(stage, monkeypatch):
    """Upstream's `train_step` swallows every exception, and goes on."""

    def broken(*_, **__):
        raise BackendError("a broken reward")

    monkeypatch.setattr(ppo_module, "rollout", broken)

    with pytest.raises(BackendError, match="a broken reward"):
        train(stage())


def test_options_travel_in_a_config_and_change_the_result(stage):
    """Upstream's options for divergence and entropy land in the model's config, and are ignored."""
    plain, near = stage("plain", ppo=PpoConfig(kl_weight=0)), stage("near", ppo=PpoConfig(kl_weight=50.0))
    assert TrainConfig.from_dict(near.to_dict()) == near

    for config in (plain, near):
        train(config)

    assert any(not torch.equal(tensor, weights(near)[name]) for name, tensor in weights(plain).items())


def test_a_step_updates_the_weights_several_times_with_the_same_actions(stage, monkeypatch):
    drawn, real = [], ppo_module.rollout
    monkeypatch.setattr(ppo_module, "rollout", lambda *args, **options: drawn.append(1) or real(*args, **options))
    once, thrice = (stage(str(count), ppo=PpoConfig(updates=count), steps=2) for count in (1, 3))
    train(once)
    assert len(drawn) == 2 * 3  # the items of two steps

    train(thrice)

    assert len(drawn) == 2 * 2 * 3
    assert any(not torch.equal(tensor, weights(thrice)[name]) for name, tensor in weights(once).items())


def test_an_interrupted_stage_ends_with_the_weights_of_an_uninterrupted_one(stage):
    ppo = PpoConfig(baseline="running", samples=2)
    whole, parts = stage("whole", ppo=ppo), stage("parts", ppo=ppo)
    train(whole)

    while not train(parts, minutes=1e-9).is_finished:
        pass

    assert all(torch.equal(tensor, weights(parts)[name]) for name, tensor in weights(whole).items())


def test_the_guide_shows_a_stage_and_explains_its_settings():
    yaml = pytest.importorskip("yaml")
    document = Path(__file__).parents[2] / "docs/guide/learn.md"
    if not document.is_file():
        pytest.skip("the documentation is not part of the source distribution")
    text = document.read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)

    assert TrainConfig.from_dict(yaml.safe_load(block)).objective == "ppo"
    assert [field.name for field in fields(PpoConfig) if f"`{field.name}`" not in text] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"processes": 2}, "`objective: ppo` runs in one process, got `processes` 2"),
        ({"dropout": 0.1}, "`objective: ppo` has no dropout"),
    ],
)
def test_what_a_stage_cannot_do_is_refused(stage, changes, message):
    with pytest.raises(ConfigError, match=message):
        stage(**changes)


def test_a_stage_is_for_classification(tmp_path, tiny_folders, ranking_file):
    with pytest.raises(ConfigError, match="`objective: ppo` is for classification sources, got ranking"):
        tiny_run(tmp_path, tiny_folders["bert"], ranking_file, objective="ppo")


def test_a_stage_samples_from_the_calibrated_scores(stage, tmp_path, tiny_folders, monkeypatch):
    start = tmp_path / "start"
    shutil.copytree(tiny_folders["bert"], start)
    config = json.loads((start / "config.json").read_text("utf-8"))
    (start / "config.json").write_text(json.dumps(config | {"label_calibration": [2.0, -0.5, -4.0]}), "utf-8")
    seen, real = [], ppo_module.rollout
    monkeypatch.setattr(
        ppo_module, "rollout", lambda logits, *args, **options: seen.append(logits) or real(logits, *args, **options)
    )

    train(stage(start=StartConfig(model=str(start)), steps=1))

    classifier = ZeroShotClassifier(start, backend="torch")
    texts = [record["text"] for record in classification_records(12)]
    shown = [sorted(found.scores) for found in classifier.classify(texts, LABELS)]
    for logits in seen:
        sampled = sorted(logits.sigmoid().tolist())
        assert any(sampled == pytest.approx(scores, abs=1e-4) for scores in shown)
