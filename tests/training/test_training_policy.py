"""Policy gradients of rankings and of labels. Each fault of upstream's `RLTrainer` has a test here."""

import itertools
import math
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_data import classification_records, tiny_run, write_lines

import gliclass_rerank.learn.training.ppo as ppo_module
from gliclass_rerank import BackendError, ConfigError
from gliclass_rerank.learn.training import DevConfig, SourceConfig, TrainConfig, train
from gliclass_rerank.learn.training.curves import read_rows
from gliclass_rerank.learn.training.label_policy import (
    bernoulli_kl,
    entropy,
    log_probabilities,
    ppo_loss,
    rewards_of,
    rollout,
)
from gliclass_rerank.learn.training.ppo_config import PpoConfig
from gliclass_rerank.learn.training.ranking_policy import (
    choice_log_probabilities,
    leave_one_out,
    ranking_policy,
    returns_to_go,
    sample_rankings,
)
from gliclass_rerank.learn.training.source_config import LossConfig

KNOWN = torch.ones(4, dtype=torch.bool)
OLD = torch.tensor([1.0, 0.0, -1.0, 0.5])
GAINS = torch.tensor([0.0, 0.0, 1.0, 0.0])
LABELS = ("brakes", "chain", "saddle")


def policy_loss(logits, old=OLD, gains=GAINS, mask=KNOWN, **options):
    return ranking_policy(logits, old, gains, mask, **{"samples": 64, "clip": 0.2, "seed": 0, **options})


# Rankings


def test_probabilities_of_all_rankings_sum_to_1():
    rankings = torch.tensor(list(itertools.permutations(range(4))))

    assert choice_log_probabilities(OLD, rankings).sum(dim=1).exp().sum().item() == pytest.approx(1)


def test_rankings_are_sampled_as_often_as_their_probability_says():
    rankings = sample_rankings(OLD, 20_000, torch.Generator().manual_seed(1))

    firsts = torch.bincount(rankings[:, 0], minlength=4) / 20_000
    torch.testing.assert_close(firsts, OLD.softmax(dim=0), atol=0.01, rtol=0)
    pairs = ((rankings[:, 0] == 0) & (rankings[:, 1] == 3)).float().mean().item()
    expected = OLD.softmax(dim=0)[0] * OLD[1:].softmax(dim=0)[2]
    assert pairs == pytest.approx(expected.item(), abs=0.01)


def test_the_return_of_the_first_choice_is_the_ndcg():
    (best, worst) = returns_to_go(GAINS, torch.tensor([[2, 0, 1, 3], [0, 1, 3, 2]]))

    assert best.tolist() == [1, 0, 0, 0]
    assert worst.tolist() == pytest.approx([1 / math.log2(5)] * 4)


def test_the_gradient_at_the_old_policy_is_that_of_the_expected_ndcg():
    logits = OLD.clone().requires_grad_()
    policy_loss(logits, samples=40_000).backward()

    exact = OLD.clone().requires_grad_()
    rankings = torch.tensor(list(itertools.permutations(range(4))))
    ndcg = returns_to_go(GAINS, rankings)[:, 0]
    (-(choice_log_probabilities(exact, rankings).sum(dim=1).exp() * ndcg).sum()).backward()
    torch.testing.assert_close(logits.grad, exact.grad, atol=0.01, rtol=0)


def test_the_mean_of_the_others_is_the_baseline():
    rewards = torch.tensor([[1.0], [0.0], [0.5]])

    assert leave_one_out(rewards).flatten().tolist() == pytest.approx([0.75, -0.75, 0.0])


def test_far_from_the_old_policy_nothing_is_rewarded_any_more():
    near, far = OLD.clone().requires_grad_(), torch.tensor([1.0, 0.0, 30.0, 0.5], requires_grad=True)
    policy_loss(near).backward()
    policy_loss(far).backward()

    assert near.grad[2] < -0.05
    assert abs(far.grad[2]) < 1e-6


@pytest.mark.parametrize(
    ("gains", "mask"), [(torch.zeros(4), KNOWN), (GAINS, torch.tensor([False, False, True, False]))]
)
def test_nothing_to_prefer_is_no_loss(gains, mask):
    logits = OLD.clone().requires_grad_()
    loss = policy_loss(logits, gains=gains, mask=mask)
    loss.backward()

    assert loss.item() == 0
    assert logits.grad.abs().sum() == 0


def test_a_ranking_policy_needs_the_logits_that_showed_the_lists():
    with pytest.raises(ConfigError, match="the loss `policy` needs one of `teachers`"):
        LossConfig(name="policy")
    with pytest.raises(ConfigError, match="`samples` must be at least 2, got 1"):
        LossConfig(name="policy", teachers=("start",), samples=1)


@pytest.mark.slow
def test_a_model_learns_a_ranking_by_its_policy_gradient(tmp_path, tiny_folders, ranking_file, dev_file):
    losses = (LossConfig(name="policy", teachers=("oracle",), clip=5.0, temperature=2.0),)
    source = SourceConfig(path=ranking_file, kind="ranking", max_candidates=5, losses=losses)
    config = tiny_run(tmp_path / "run", tiny_folders["bert"], ranking_file, sources=(source,), steps=20)

    train(replace(config, dev=(DevConfig(path=ranking_file, kind="ranking", name="own"),)))

    first, last = read_rows(tmp_path / "run/dev.csv")
    assert last["own.ndcg@10"] > first["own.ndcg@10"] + 0.1


# Labels, piece by piece


LOGITS = torch.tensor([0.5, -0.3, 2.0])
TARGETS = torch.tensor([1.0, 0.0, 0.0])


def rolled(config, logits=LOGITS, targets=TARGETS, reference=None, **options):
    return rollout(logits, targets, reference, config, **{"baseline": 0.0, "seed": 3, **options})


def test_later_updates_compare_the_same_actions():
    """Upstream samples new actions in each inner iteration, so its ratio compares different ones."""
    config = PpoConfig(kl_weight=0)
    known = rolled(config)
    moved = LOGITS + torch.tensor([0.1, -0.1, 0.05])

    expected = (log_probabilities(moved, known.actions) - log_probabilities(LOGITS, known.actions)).exp()
    assert ppo_loss(LOGITS, known, config).item() == pytest.approx(-known.advantages.mean().item(), abs=1e-6)
    assert ppo_loss(moved, known, config).item() == pytest.approx(
        -(expected * known.advantages).mean().item(), abs=1e-6
    )


def test_actions_depend_on_the_seed_alone():
    config = PpoConfig(samples=50)

    assert torch.equal(rolled(config).actions, rolled(config).actions)
    assert not torch.equal(rolled(config).actions, rolled(config, seed=4).actions)


def test_what_is_off_is_off_and_a_negative_weight_is_refused():
    """Upstream's `entropy_beta=-1` and `kl_beta=-1` are documented as off, and add the term with weight 1."""
    off, known = PpoConfig(kl_weight=0, entropy_weight=0), rolled(PpoConfig(), reference=LOGITS + 1)

    moved = LOGITS + 0.1
    with_both = ppo_loss(moved, known, PpoConfig(kl_weight=0.5, entropy_weight=0.25))
    expected = 0.5 * bernoulli_kl(moved, LOGITS + 1).mean() - 0.25 * entropy(moved).mean()
    assert (with_both - ppo_loss(moved, known, off)).item() == pytest.approx(expected.item(), abs=1e-6)
    for name in ("kl_weight", "entropy_weight", "gamma"):
        with pytest.raises(ConfigError, match=f"`{name}` must be at least 0, got -1"):
            PpoConfig(**{name: -1})
    assert PpoConfig().entropy_weight == 0


def test_the_divergence_is_the_mean_of_k3():
    reference = torch.tensor([0.0, 1.0, -1.0])
    found = torch.zeros(3)
    for action in (0.0, 1.0):
        own, theirs = (log_probabilities(logits, torch.full((3,), action)) for logits in (LOGITS, reference))
        found += own.exp() * ((theirs - own).exp() - 1 - (theirs - own))

    torch.testing.assert_close(bernoulli_kl(LOGITS, reference), found)


def test_focal_weights_are_small_where_the_policy_is_sure():
    """Upstream's weight is p^gamma."""
    config, sure = PpoConfig(kl_weight=0, gamma=2.0), torch.tensor([8.0, 8.0, 8.0])
    known = rolled(PpoConfig(), logits=sure, targets=torch.zeros(3))
    known = replace(known, advantages=torch.ones_like(known.advantages))

    assert ppo_loss(sure, known, config).item() == pytest.approx(0, abs=1e-5)
    assert ppo_loss(sure, known, replace(config, gamma=0.0)).item() == pytest.approx(-1, abs=1e-5)


@pytest.mark.parametrize(
    ("actions", "targets", "f1"),
    [
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], 1.0),
        ([1.0, 0.0, 0.0], [0.0, 0.0, 0.0], 0.0),
        ([0.0, 0.0, 0.0], [1.0, 0.0, 0.0], 0.0),
        ([1.0, 1.0, 0.0], [1.0, 0.0, 0.0], 2 / 3),
    ],
)
def test_a_right_abstention_is_rewarded(actions, targets, f1):
    """Upstream's F1 reward is 0 for it."""
    found = rewards_of(torch.tensor([actions]), torch.tensor(targets), "f1")

    assert found.tolist() == [pytest.approx([f1] * 3)]


def test_each_label_has_a_reward_of_its_own():
    """Upstream gives every label the reward of the whole set."""
    assert rewards_of(torch.tensor([[1.0, 1.0, 0.0]]), TARGETS, "per_label").tolist() == [[1, 0, 1]]
    assert rewards_of(torch.tensor([[1.0, 1.0, 0.0]]), TARGETS, "accuracy").tolist() == [[0, 0, 0]]


def test_all_terms_are_means_over_labels():
    """Upstream's policy loss is a sum over labels, its divergence a mean, so weights depend on their number."""
    config = PpoConfig(kl_weight=0.5, entropy_weight=0.1)
    known = rolled(config, reference=LOGITS + 1)
    twice = replace(
        known,
        **{
            name: getattr(known, name).repeat(1, 2)
            for name in ("actions", "log_probabilities", "rewards", "advantages")
        },
        reference=(LOGITS + 1).repeat(2),
    )

    one, other = ppo_loss(LOGITS + 0.1, known, config), ppo_loss((LOGITS + 0.1).repeat(2), twice, config)
    assert one.item() == pytest.approx(other.item(), abs=1e-6)


def test_no_value_model_is_needed():
    """Upstream fails without one: the attribute is never set."""
    running = rolled(PpoConfig(baseline="running", samples=1), baseline=0.25)
    none = rolled(PpoConfig(baseline="none", samples=1))

    assert torch.equal(running.advantages, running.rewards - 0.25)
    assert torch.equal(none.advantages, none.rewards)
    with pytest.raises(ConfigError, match="`leave_one_out` needs at least 2 `samples`, got 1"):
        PpoConfig(samples=1)


@pytest.mark.parametrize("reward", ["per_label", "f1", "accuracy"])
@pytest.mark.parametrize("baseline", ["leave_one_out", "running", "none"])
def test_a_policy_reaches_the_truth_by_any_reward_and_baseline(reward, baseline):
    config = PpoConfig(reward=reward, baseline=baseline, samples=8, kl_weight=0)
    logits = torch.zeros(3, requires_grad=True)
    optimizer, mean = torch.optim.Adam([logits], lr=0.1), 0.0
    for step in range(80):
        known = rolled(config, logits=logits, baseline=mean, seed=step)
        mean += 0.1 * (known.rewards.mean().item() - mean)
        for _ in range(config.updates):
            optimizer.zero_grad()
            ppo_loss(logits, known, config).backward()
            optimizer.step()

    assert logits.sigmoid().round().tolist() == TARGETS.tolist()
    assert (logits.sigmoid() - TARGETS).abs().max() < 0.2


def test_the_divergence_holds_a_policy_near_the_start():
    logits, start = torch.zeros(3, requires_grad=True), torch.zeros(3)
    config, optimizer = PpoConfig(kl_weight=5.0), torch.optim.Adam([logits], lr=0.1)
    for step in range(60):
        known = rolled(config, logits=logits, reference=start, seed=step)
        optimizer.zero_grad()
        ppo_loss(logits, known, config).backward()
        optimizer.step()

    assert logits.detach().abs().max() < 0.5


# Labels, whole stages


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
    config = stage(dev=dev, steps=60, queries_per_step=6, ppo=PpoConfig(samples=32, kl_weight=0.01))

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
