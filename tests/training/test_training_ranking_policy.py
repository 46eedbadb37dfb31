"""Policy gradient of rankings."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from training_data import tiny_run

from gliclass_rerank import ConfigError
from gliclass_rerank.learn.training import DevConfig, SourceConfig, train
from gliclass_rerank.learn.training.curves import read_rows
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


def policy_loss(logits, old=OLD, gains=GAINS, mask=KNOWN, **options):
    return ranking_policy(logits, old, gains, mask, **{"samples": 64, "clip": 0.2, "seed": 0, **options})


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
