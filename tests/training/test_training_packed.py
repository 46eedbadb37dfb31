"""Sequences of several items after each other: what comes out is what padded ones give."""

import math
import random

import pytest
import torch
from tiny_checkpoints import WORDS, tiny_checkpoint
from training_data import tiny_run

from gliclass_rerank.errors import ConfigError
from gliclass_rerank.learn.training import train
from gliclass_rerank.learn.training.batches import ItemCollator
from gliclass_rerank.learn.training.gradients import shares
from gliclass_rerank.learn.training.optimizer import freeze
from gliclass_rerank.learn.training.packed import run_packed, unpackable_reason
from gliclass_rerank.learn.training.packing import Packing, packed_chunks
from gliclass_rerank.learn.training.precision import run
from gliclass_rerank.learn.training.questions import Question
from gliclass_rerank.learn.training.stream import Item
from gliclass_rerank.pipeline import build_planner
from gliclass_rerank.prompt.layout import ScoringRequest
from gliclass_rerank.settings import ModelSettings
from gliclass_rerank.types import Example

CPU = torch.device("cpu")
# What the bundled model has, and what upstream's have.
OURS = {
    "query_attention_start": 1,
    "query_key_bias": True,
    "token_interaction": True,
    "candidate_position_start": 3,
    "use_calibrator": False,
}
THEIRS = {"class_token_pooling": "first", "embed_class_token": False, "use_segment_embeddings": True}
EXAMPLES = (Example("flat tire", ("patch tube",), ()), Example("rust", ("oil chain lube", "dry rag"), ()))


def make_batches(checkpoint):
    """Three items of different shapes, one with examples and one with a candidate of no word."""
    planner, rng = build_planner(checkpoint, "shared_query", ModelSettings()), random.Random(3)
    items = []
    for query, lengths, examples in (
        ("chain bell", (1, 19, 4, 4, 30), ()),
        ("squeal", (6, 0, 7), EXAMPLES),
        ("loose spoke hub rim bell", (5,), ()),
    ):
        passages = tuple(" ".join(rng.choices(WORDS, k=length)) for length in lengths)
        ask = ScoringRequest(text=query, candidates=passages, examples=examples, example_format="few_shot")
        question = Question(query, passages, (1.0,) + (0.0,) * (len(passages) - 1), {}, examples, "file:1")
        items.append(Item(question, planner.plan(ask, truncate_side="candidates"), 0))
    options = {"multiple": 1, "group_tokens": 64, "group_cost": 8}
    return ItemCollator(checkpoint.config, CPU, row_multiple=16, **options)(items)


def gradients_of(model, outputs):
    """Gradients of a loss that looks at every logit and vector; by name, None where there is none."""
    model.zero_grad(set_to_none=True)
    loss = sum(
        logits.logsumexp(0) - logits[0] + (0 if vectors is None else vectors.square().sum())
        for logits, vectors in outputs
    )
    loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def padded(checkpoint, batches, precision="float32"):
    return [output for batch in batches for output in run(checkpoint.model, batch, precision, with_vectors=True)]


def packed(checkpoint, batches, precision="float32"):
    return run_packed(checkpoint.model, batches, precision, with_vectors=True)


@pytest.fixture(params=[OURS, THEIRS], ids=["ours", "theirs"])
def checkpoint(request):
    made = tiny_checkpoint("bert", **request.param)
    if made.model.query_key_bias is not None:
        torch.nn.init.normal_(made.model.query_key_bias)
    return made


@pytest.mark.parametrize("frozen_layers", [0, 2])
def test_packed_gradients_are_those_of_padded_rows(checkpoint, frozen_layers):
    freeze(checkpoint.model, embeddings=frozen_layers > 0, layers=frozen_layers)
    batches = make_batches(checkpoint)
    expected_outputs = padded(checkpoint, batches)
    outputs = run_packed(checkpoint.model, batches, "float32", with_vectors=True)
    for found, wanted in zip(outputs, expected_outputs, strict=True):
        assert all(torch.allclose(*pair, atol=1e-5) for pair in zip(found, wanted, strict=True))
    expected = {k: v if v is None else v.clone() for k, v in gradients_of(checkpoint.model, expected_outputs).items()}
    found = gradients_of(checkpoint.model, outputs)
    largest = max(gradient.abs().max() for gradient in expected.values() if gradient is not None)
    for name, gradient in expected.items():
        assert (gradient is None) == (found[name] is None), name
        assert gradient is None or torch.allclose(found[name], gradient, rtol=1e-4, atol=1e-5 * largest.item()), name
    assert sum(gradient is not None for gradient in expected.values()) > 10


def calm(model):
    """Make a random network one whose outputs do not hang on the last bits of its weights."""
    for name, parameter in model.named_parameters():
        if "encoder.layer" in name and parameter.ndim > 1:
            parameter.data *= 0.25


def half_precision_errors(checkpoint, batches):
    """How far the backbone's gradients in bfloat16 are from those in float32, by name."""
    calm(checkpoint.model)
    found = {}
    for precision in ("float32", "bfloat16"):
        outputs = run_packed(checkpoint.model, batches, precision, with_vectors=False)
        assert all(logits.dtype == torch.float32 for logits, _ in outputs)
        found[precision] = gradients_of(checkpoint.model, outputs)
    # What all keys have in common changes no weight of attention: the gradient of their bias is noise.
    return {
        name: ((found["bfloat16"][name] - exact).norm() / exact.norm()).item()
        for name, exact in found["float32"].items()
        if exact is not None and "encoder_model" in name and not name.endswith("key.bias")
    }


def test_gradients_in_half_precision_stay_near(checkpoint):
    errors = half_precision_errors(checkpoint, make_batches(checkpoint))
    assert max(errors.values()) < 0.06, errors
    assert max(errors.values()) > 1e-3, "nothing ran in half precision"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gradients_do_not_depend_on_what_lay_in_memory(checkpoint, precision, monkeypatch):
    batches = make_batches(checkpoint)
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda self, *size, **_: self.new_full(size, math.nan))
    for run_them in (padded, packed):
        found = gradients_of(checkpoint.model, run_them(checkpoint, batches, precision))
        assert all(gradient.isfinite().all() for gradient in found.values() if gradient is not None), run_them


def test_norms_sum_their_gradients_over_many_tokens_exactly_enough():
    checkpoint = tiny_checkpoint("bert", **OURS)
    errors = half_precision_errors(checkpoint, make_batches(checkpoint) * 30)
    # Torch's own sums in bfloat16 are off by a fifth and more here.
    assert max(error for name, error in errors.items() if "LayerNorm" in name) < 0.06, errors


def test_a_packing_has_sequences_side_by_side_and_few_widths():
    checkpoint = tiny_checkpoint("bert", **OURS)
    batches = make_batches(checkpoint)
    packing = Packing.of([batch.inputs for batch in batches], candidate_start=3, dtype=torch.float32)
    stop = 0
    for span in packing.spans:
        assert span.start == stop
        assert span.seen % 16 == 0
        assert span.num_rows == 1 or span.seen == span.width
        stop = span.stop
    assert stop == packing.num_used
    assert len(packing.ids) == len(packing.positions) >= max(span.start + span.seen for span in packing.spans)
    query, groups = packing.items[1]
    num_query = batches[1].inputs.query.ids.shape[1]
    assert packing.positions[query.start : query.start + num_query].tolist() == list(range(num_query))
    assert packing.positions[groups[0].start : groups[0].start + 3].tolist() == [3, 4, 5]
    assert query.width == num_query
    assert query.mask.flatten().tolist() == [0.0] * num_query + [-math.inf] * (query.seen - num_query)


@pytest.mark.parametrize(
    ("sizes", "chunks"),
    [
        ([5], [[0]]),
        ([50], [[0]]),
        ([5, 5, 5, 5], [[0, 1], [2, 3]]),
        ([9, 9, 2], [[0], [1], [2]]),
        ([2, 2, 2], [[0, 1, 2]]),
    ],
)
def test_chunks_are_of_similar_size_and_bounded(sizes, chunks):
    assert packed_chunks(sizes, 10) == chunks


def test_every_process_gets_about_as_much():
    assert shares([7, 1, 4, 2, 5], 2) == [[0, 1, 3], [2, 4]]
    assert shares([3, 3, 3], 3) == [[0], [1], [2]]


@pytest.mark.parametrize(
    ("backbone", "plan", "dropout", "changes", "reason"),
    [
        ("modernbert", "shared_query", 0.0, {}, "BERT"),
        ("bert", "joint", 0.0, {}, "'joint'"),
        ("bert", "shared_query", 0.1, {}, "0.1"),
        ("bert", "shared_query", 0.0, {"squeeze_layers": True}, "inner layers"),
    ],
)
def test_what_cannot_be_packed_says_why(backbone, plan, dropout, changes, reason):
    model = tiny_checkpoint(backbone, **changes).model
    assert reason in unpackable_reason(model, plan=plan, dropout=dropout)


def test_packing_is_refused_where_it_is_asked_for_in_vain(tmp_path, tiny_folders, ranking_file):
    config = tiny_run(tmp_path / "out", tiny_folders["modernbert"], ranking_file, packed=True)
    with pytest.raises(ConfigError, match=r"`packed` is asked for, but packed training needs .* BERT"):
        train(config)
    assert not (tmp_path / "out").exists()


def test_packed_and_padded_runs_learn_the_same(tmp_path, tiny_folders, ranking_file):
    losses = {}
    for packed in (True, False):
        found = losses[packed] = []
        config = tiny_run(tmp_path / str(packed), tiny_folders["bert"], ranking_file, packed=packed, steps=8)
        train(config, on_report=lambda report, found=found: found.append(report.loss))
    assert losses[True] == pytest.approx(losses[False], rel=1e-3)
