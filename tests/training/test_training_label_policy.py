"""Policy gradient of labels, piece by piece. Each fault of upstream's `RLTrainer` has a test here or in the stages'."""

from dataclasses import replace

import pytest
import torch

from gliclass_rerank import ConfigError
from gliclass_rerank.learn.training.label_policy import (
    bernoulli_kl,
    entropy,
    log_probabilities,
    policy_logits,
    ppo_loss,
    rewards_of,
    rollout,
)
from gliclass_rerank.learn.training.ppo_config import PpoConfig
from gliclass_rerank.model.label_scores import label_scores

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


@pytest.mark.parametrize("logits", [[-9.0, -3.0, -7.0, -12.0], [-4.0, -4.0, -5.0], [-6.0], [1.0, 1.0]])
@pytest.mark.parametrize("calibration", [None, (0.9, -0.3, -9.7)])
def test_what_is_sampled_is_what_the_classifier_shows(logits, calibration):
    """A ranker's raw logits are far below 0: without the calibration hardly any label would ever be tried."""
    found = policy_logits(torch.tensor(logits), calibration).sigmoid()

    assert found.tolist() == pytest.approx(label_scores(logits, calibration), abs=1e-6)
