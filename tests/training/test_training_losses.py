import math

import pytest
import torch

from gliclass_rerank.learn.training.losses import (
    binary_cross_entropy,
    contrastive,
    focal,
    listwise_kl,
    listwise_softmax,
    margin_mse,
    mean_squared_error,
    ranknet,
    relational,
)

COMPARING = (listwise_softmax, binary_cross_entropy, focal, mean_squared_error, margin_mse, ranknet, listwise_kl)


def tensors(logits, targets):
    """Logits, targets without None, and the mask of what is known."""
    mask = torch.tensor([target is not None for target in targets])
    known = torch.tensor([0.0 if target is None else target for target in targets])
    return torch.tensor(logits, requires_grad=True), known, mask


def value(loss, logits, targets, **options):
    return loss(*tensors(logits, targets), **options).item()


def gradient(loss, logits, targets, **options):
    leaf, known, mask = tensors(logits, targets)
    loss(leaf, known, mask, **options).backward()
    return leaf.grad.tolist()


def logistic(x):
    return 1 / (1 + math.exp(-x))


def test_listwise_softmax_is_the_cross_entropy_with_normalised_grades():
    total = math.exp(1) + math.exp(2) + math.exp(0)
    expected = -(1 / 4 * math.log(math.exp(1) / total) + 3 / 4 * math.log(math.exp(2) / total))
    assert value(listwise_softmax, [1.0, 2.0, 0.0], [1.0, 3.0, 0.0]) == pytest.approx(expected)


def test_binary_cross_entropy_is_the_mean_over_candidates():
    expected = -(math.log(logistic(1)) + math.log(1 - logistic(-2))) / 2
    assert value(binary_cross_entropy, [1.0, -2.0], [1.0, 0.0]) == pytest.approx(expected)


def test_focal_without_focus_is_binary_cross_entropy():
    logits, targets = [1.0, -2.0, 0.5], [1.0, 0.0, 0.3]
    assert value(focal, logits, targets, gamma=0.0) == pytest.approx(value(binary_cross_entropy, logits, targets))


def test_focal_weighs_by_what_is_wrong_and_by_side():
    right, wrong = logistic(1), 1 - logistic(-2)
    expected = (0.25 * (1 - right) ** 2 * -math.log(right) + 0.75 * (1 - wrong) ** 2 * -math.log(wrong)) / 2
    assert value(focal, [1.0, -2.0], [1.0, 0.0], gamma=2.0, alpha=0.25) == pytest.approx(expected)


def test_mean_squared_error_is_what_it_says():
    assert value(mean_squared_error, [1.0, 5.0], [3.0, 4.0]) == pytest.approx((4 + 1) / 2)


def test_margin_mse_compares_the_margins_of_all_pairs():
    # margins of the logits 1-4, 1-6, 4-6 against the targets' 0-1, 0-5, 1-5
    expected = ((-3 + 1) ** 2 + (-5 + 5) ** 2 + (-2 + 4) ** 2) / 3
    assert value(margin_mse, [1.0, 4.0, 6.0], [0.0, 1.0, 5.0]) == pytest.approx(expected)


def test_margin_mse_does_not_see_a_common_shift():
    assert value(margin_mse, [11.0, 14.0], [0.0, 3.0]) == pytest.approx(0)


def test_ranknet_is_the_mean_logistic_loss_of_ordered_pairs():
    expected = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(2)) + math.log(1 + math.exp(3))) / 3
    assert value(ranknet, [1.0, 0.0, 3.0], [2.0, 1.0, 0.0]) == pytest.approx(expected)


def test_ranknet_leaves_ties_out():
    assert value(ranknet, [1.0, 0.0, 9.0], [2.0, 1.0, 1.0]) == pytest.approx(
        (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(8))) / 2
    )


def test_listwise_kl_is_the_divergence_from_the_softened_teacher():
    teacher = [math.exp(2 / 2), math.exp(0)]
    teacher = [part / sum(teacher) for part in teacher]
    student = [logistic(1), 1 - logistic(1)]
    expected = sum(p * math.log(p / q) for p, q in zip(teacher, student, strict=True))
    assert value(listwise_kl, [1.0, 0.0], [2.0, 0.0], temperature=2.0) == pytest.approx(expected)


def test_listwise_kl_vanishes_where_student_and_teacher_agree():
    assert value(listwise_kl, [1.0, 4.0, 2.0], [3.0, 6.0, 4.0]) == pytest.approx(0, abs=1e-6)


def test_contrastive_wants_each_row_closest_to_its_own():
    anchors = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    positives = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    cosine = math.sqrt(0.5)
    rows = [-math.log(math.exp(2) / (math.exp(2) + math.exp(2 * cosine)))]
    rows.append(-math.log(math.exp(2 * cosine) / (math.exp(2 * cosine) + 1)))
    assert contrastive(anchors, positives, temperature=0.5).item() == pytest.approx(sum(rows) / 2)


@pytest.mark.parametrize("loss", COMPARING)
def test_a_step_against_the_gradient_lifts_the_better_candidate(loss):
    slopes = gradient(loss, [0.0, 0.0, 0.0], [1.0, 0.0, 0.0])
    assert slopes[0] < 0
    assert slopes[1] == pytest.approx(slopes[2])
    assert slopes[1] >= 0


@pytest.mark.parametrize("loss", COMPARING)
def test_an_unknown_candidate_changes_nothing(loss):
    slopes = gradient(loss, [0.5, 7.0, -1.0], [1.0, None, 0.0])
    assert slopes[1] == 0
    assert value(loss, [0.5, 7.0, -1.0], [1.0, None, 0.0]) == pytest.approx(value(loss, [0.5, -1.0], [1.0, 0.0]))


@pytest.mark.parametrize("loss", COMPARING)
def test_nothing_known_is_a_zero_with_zero_gradients(loss):
    assert value(loss, [2.0, -3.0], [None, None]) == 0
    assert gradient(loss, [2.0, -3.0], [None, None]) == [0, 0]


@pytest.mark.parametrize("loss", [listwise_softmax, ranknet])
def test_a_list_without_a_positive_teaches_no_order(loss):
    assert value(loss, [2.0, -3.0], [0.0, 0.0]) == 0
    assert gradient(loss, [2.0, -3.0], [0.0, 0.0]) == [0, 0]


@pytest.mark.parametrize("loss", [listwise_softmax, margin_mse, ranknet, listwise_kl])
def test_a_single_candidate_teaches_no_order(loss):
    assert value(loss, [2.0], [1.0]) == pytest.approx(0)
    assert gradient(loss, [2.0], [1.0]) == [pytest.approx(0)]


def test_relational_wants_the_similarities_of_the_teacher_whatever_the_space():
    vectors = torch.tensor([[3.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    same = torch.nn.functional.normalize(vectors, dim=-1)
    assert relational(vectors, same @ same.T / 0.5, temperature=0.5).item() == pytest.approx(0, abs=1e-6)
    halves = torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 9.0]])  # the diagonal does not count
    shares = [logistic(math.sqrt(0.5)), logistic(0), logistic(-math.sqrt(0.5))]
    expected = sum(0.5 * math.log(0.5 / q) + 0.5 * math.log(0.5 / (1 - q)) for q in shares) / 3
    assert relational(vectors, halves).item() == pytest.approx(expected)


def test_two_vectors_have_no_order_to_learn():
    vectors = torch.rand(2, 5, requires_grad=True)
    relational(vectors, torch.rand(2, 2)).backward()
    assert vectors.grad.abs().sum() == 0


def test_one_vector_has_nothing_to_be_told_apart_from():
    vectors = torch.ones(1, 5, requires_grad=True)
    contrastive(vectors, vectors).backward()
    assert vectors.grad.abs().sum() == 0
