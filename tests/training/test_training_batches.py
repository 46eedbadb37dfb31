import itertools
import math
import random

import pytest
import torch
from tiny_checkpoints import WORDS, tiny_checkpoint
from training_data import ranking_records

from gliclass_rerank.learn.training.batches import ItemCollator, group_by_length, rounded_width, targets_of
from gliclass_rerank.learn.training.objective import item_loss
from gliclass_rerank.learn.training.precision import run
from gliclass_rerank.learn.training.questions import Question
from gliclass_rerank.learn.training.source_config import LossConfig
from gliclass_rerank.learn.training.stream import Item
from gliclass_rerank.pipeline import Pipeline, build_planner
from gliclass_rerank.prompt.layout import ScoringRequest
from gliclass_rerank.settings import RerankerSettings

CPU = torch.device("cpu")


def make_item(checkpoint, plan, passages, *, window_tokens=None):
    question = Question("chain bell", tuple(passages), (1.0,) + (0.0,) * (len(passages) - 1), {}, (), "file:1")
    planner = build_planner(checkpoint, plan, RerankerSettings(window_tokens=window_tokens))
    ask = ScoringRequest(text=question.text, candidates=question.candidates, example_format="few_shot")
    return Item(question, planner.plan(ask, truncate_side="candidates"), 0)


def cost_of(groups, lengths, multiple, group_cost):
    return sum(
        len(group) * rounded_width(len(group), max(lengths[i] for i in group), multiple) + group_cost
        for group in groups
    )


def cheapest(lengths, multiple, max_tokens, group_cost):
    """The least cost over all ways to cut the sorted list, by trying them all."""
    order = sorted(lengths, reverse=True)
    best = math.inf
    for cuts in itertools.product([False, True], repeat=len(order) - 1):
        groups, group = [], [0]
        for index, cut in enumerate(cuts, start=1):
            if cut:
                groups.append(group)
                group = []
            group.append(index)
        groups.append(group)
        tokens = [len(g) * rounded_width(len(g), order[g[0]], multiple) for g in groups]
        if all(count <= max_tokens or len(g) == 1 for count, g in zip(tokens, groups, strict=True)):
            best = min(best, cost_of(groups, order, multiple, group_cost))
    return best


@pytest.mark.parametrize("multiple", [1, 8, 64])
def test_groups_are_the_cheapest_there_are(multiple):
    rng = random.Random(multiple)
    for _ in range(12):
        lengths = [rng.randint(1, 60) for _ in range(8)]
        groups = group_by_length(lengths, multiple, 200, 16)
        assert sorted(itertools.chain.from_iterable(groups)) == list(range(8))
        assert cost_of(groups, lengths, multiple, 16) == cheapest(lengths, multiple, 200, 16)


def test_groups_hold_candidates_longest_first():
    assert list(itertools.chain.from_iterable(group_by_length([3, 9, 3, 7], 1, 100, 1))) == [1, 3, 0, 2]


def test_a_candidate_longer_than_a_group_is_alone():
    assert group_by_length([500, 9, 9], 1, 100, 0) == [[0], [1, 2]]


@pytest.mark.parametrize(("rows", "width", "multiple"), [(1, 5, 16), (3, 5, 16), (8, 5, 16), (24, 97, 64), (7, 9, 1)])
def test_rounding_makes_the_tokens_a_multiple_with_the_least_width(rows, width, multiple):
    rounded = rounded_width(rows, width, multiple)
    fitting = [w for w in range(width, width + multiple) if rows * w % multiple == 0]
    assert rounded == fitting[0]


@pytest.mark.parametrize(
    ("backbone", "plan"),
    [("bert", "shared_query"), ("modernbert", "shared_query"), ("modernbert", "joint"), ("deberta-v2", "joint")],
)
@pytest.mark.parametrize("multiple", [1, 16])
def test_training_sees_the_logits_of_inference(tiny_folders, backbone, plan, multiple):
    checkpoint = tiny_checkpoint(backbone)
    rng = random.Random(2)
    passages = [" ".join(rng.choices(WORDS, k=count)) for count in (1, 19, 4, 4, 30, 2, 11)]
    options = {"window_tokens": 40} if plan == "joint" else {}
    item = make_item(checkpoint, plan, passages, **options)
    (batch,) = ItemCollator(checkpoint.config, CPU, multiple=multiple, group_tokens=64, group_cost=4)([item])
    [(logits, vectors)] = run(checkpoint.model, batch, "float32", with_vectors=True)
    pipeline = Pipeline(RerankerSettings(tiny_folders[backbone], device="cpu", plan=plan, **options))
    (scored,) = pipeline.score([ScoringRequest("chain bell", passages)], truncate_side="candidates")
    expected = scored.logits
    assert logits.tolist() == pytest.approx([expected[index] for index in batch.orders[0]], abs=2e-5)
    assert sorted(batch.orders[0]) == list(range(7))
    assert vectors.shape == (7, 24)
    assert batch.num_tokens == item.num_tokens <= batch.num_padded


def test_short_windows_of_several_items_share_a_forward_pass():
    checkpoint = tiny_checkpoint("modernbert")
    collate = ItemCollator(checkpoint.config, CPU, multiple=1, group_tokens=64, group_cost=16)
    texts = [["oil", "rust bell"], ["rim"], [" ".join(WORDS[:20])] * 2, [f"{word} hub" for word in WORDS[:9]]]
    items = [make_item(checkpoint, "joint", passages, window_tokens=30) for passages in texts]
    assert [len(item.plan.requests) for item in items] == [1, 1, 2, 2]
    batches = collate(items)
    assert sorted(len(batch.items) for batch in batches) == [1, 1, 2]
    assert {id(item) for batch in batches for item in batch.items} == {id(item) for item in items}
    for batch in batches:
        together = run(checkpoint.model, batch, "float32", with_vectors=True)
        for (logits, vectors), item, order in zip(together, batch.items, batch.orders, strict=True):
            [(alone, vectors_alone)] = run(checkpoint.model, collate([item])[0], "float32", with_vectors=True)
            assert logits.tolist() == pytest.approx(alone.tolist(), abs=2e-5)
            assert vectors.shape == vectors_alone.shape == (len(order), 24)


def test_shapes_are_few_where_it_counts():
    checkpoint = tiny_checkpoint("bert")
    item = make_item(checkpoint, "shared_query", [" ".join(WORDS[:n]) for n in (3, 7, 12, 12, 13, 31)])
    (batch,) = ItemCollator(checkpoint.config, CPU, multiple=32, group_tokens=256, group_cost=8)([item])
    assert all(group.ids.numel() % 32 == 0 for group in batch.inputs.groups)
    assert all(group.is_padded for group in batch.inputs.groups)


def test_half_precision_stays_near_and_leaves_the_head_exact():
    checkpoint = tiny_checkpoint("bert")
    item = make_item(checkpoint, "shared_query", [record["passages"][0] for record in ranking_records(6)])
    (batch,) = ItemCollator(checkpoint.config, CPU, multiple=64, group_tokens=512, group_cost=8)([item])
    dtypes = []
    handle = checkpoint.model.text_projector.linear_1.register_forward_hook(
        lambda module, inputs, output: dtypes.append(output.dtype)
    )
    [(exact, _)] = run(checkpoint.model, batch, "float32", with_vectors=False)
    [(rounded, _)] = run(checkpoint.model, batch, "bfloat16", with_vectors=False)
    handle.remove()
    assert dtypes == [torch.float32, torch.float32]
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded), "nothing ran in half precision"
    assert rounded.tolist() == pytest.approx(exact.tolist(), abs=0.5)
    rounded.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in checkpoint.model.parameters() if p.grad is not None)
    assert not checkpoint.model.text_projector._forward_pre_hooks, "hooks are taken off again"


def question_with(grades, **teachers):
    texts = tuple(f"p{index}" for index in range(len(grades)))
    return Question("q", texts, tuple(grades), teachers, (), "file:1")


def loss_of(logits, question, *terms, order=None):
    return item_loss(torch.tensor(logits), None, question, order or range(len(logits)), terms).item()


def test_targets_follow_the_order_of_the_logits():
    assert targets_of([1.0, 2.0, 3.0], [2, 0, 1], CPU).tolist() == [3, 1, 2]
    question = question_with([1.0, 0.0])
    term = LossConfig(name="listwise")
    assert loss_of([0.0, 3.0], question, term, order=(1, 0)) == pytest.approx(loss_of([3.0, 0.0], question, term))


def test_terms_add_up_with_their_weights():
    question = question_with([1.0, 0.0])
    bce, ranknet = LossConfig(name="bce"), LossConfig(name="ranknet")
    both = loss_of([1.0, 0.5], question, LossConfig(name="bce", weight=2), LossConfig(name="ranknet", weight=0.5))
    expected = 2 * loss_of([1.0, 0.5], question, bce) + 0.5 * loss_of([1.0, 0.5], question, ranknet)
    assert both == pytest.approx(expected)


def test_logits_are_divided_by_the_temperature():
    question = question_with([1.0, 0.0])
    sharp = loss_of([0.2, 0.1], question, LossConfig(name="listwise", temperature=0.1))
    assert sharp == pytest.approx(loss_of([2.0, 1.0], question, LossConfig(name="listwise")))


def test_grades_above_one_are_yes_to_the_losses_that_ask_yes_or_no():
    assert loss_of([1.0, 0.5], question_with([3.0, 0.0]), LossConfig(name="bce")) == pytest.approx(
        loss_of([1.0, 0.5], question_with([1.0, 0.0]), LossConfig(name="bce"))
    )


def test_several_teachers_are_brought_to_one_scale_and_averaged():
    question = question_with([1.0, 0.0, 0.0], a=(10.0, 20.0, 30.0), b=(0.3, 0.2, 0.1))
    # standardised, b is a turned around: on average they say nothing
    assert loss_of([1.0, 1.0, 1.0], question, LossConfig(name="kl", teachers=("a", "b"))) == pytest.approx(0, abs=1e-6)
    alone = loss_of([1.0, 2.0, 3.0], question, LossConfig(name="kl", teachers=("a",), teacher_temperature=10))
    assert alone == pytest.approx(0, abs=1e-6)


def test_candidates_without_a_teachers_score_are_left_out():
    nan = float("nan")
    term = LossConfig(name="margin_mse", teachers=("a",))
    assert loss_of([5.0, 9.0, 4.0], question_with([1.0, 0.0, 0.0], a=(1.0, nan, 0.0)), term) == pytest.approx(0)


def test_a_teachers_score_is_a_probability_to_the_losses_that_ask_yes_or_no():
    question = question_with([0.0], a=(2.0,))
    expected = -(1 / (1 + math.exp(-2))) * math.log(0.5) - (1 - 1 / (1 + math.exp(-2))) * math.log(0.5)
    assert loss_of([0.0], question, LossConfig(name="bce", teachers=("a",))) == pytest.approx(expected)
