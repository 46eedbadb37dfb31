import pytest
import torch
from tiny_checkpoints import fill_at_random, tiny_config

from gliclass_rerank.model.scorers import build_scorer

WINDOWS, PASSAGES, TOKENS, HIDDEN = 2, 5, 7, 24
SCORERS = ("simple", "weighted-dot", "mlp", "hopfield", "cross-attn")

# Other shapes select other kernels; logits are of order 1.
TOLERANCE = 1e-5


def scorer(name):
    changes = (
        {"pooling_strategy": "pass", "scorer_num_heads": 3, "use_calibrator": False} if name == "cross-attn" else {}
    )
    module = build_scorer(tiny_config("bert", scorer_type=name, scorer_mlp_hidden_size=14, **changes))
    return fill_at_random(module).eval()


def inputs(name, seed=4):
    generator = torch.Generator().manual_seed(seed)
    # Small, so that hopfield's softmax is soft and every slot has a share.
    text = 0.1 * torch.randn(
        *((WINDOWS, TOKENS, HIDDEN) if name == "cross-attn" else (WINDOWS, HIDDEN)), generator=generator
    )
    candidates = 0.1 * torch.randn(WINDOWS, PASSAGES, HIDDEN, generator=generator)
    marker_mask = torch.arange(PASSAGES) < torch.tensor([PASSAGES, 3])[:, None]
    text_mask = torch.arange(TOKENS) < torch.tensor([TOKENS, 4])[:, None]
    return text, candidates, marker_mask, text_mask


@torch.no_grad()
@pytest.mark.parametrize("name", SCORERS)
def test_a_scorer_gives_one_finite_logit_a_slot(name):
    logits = scorer(name)(*inputs(name))

    assert logits.shape == (WINDOWS, PASSAGES)
    assert logits.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("name", SCORERS)
def test_empty_slots_and_padded_text_change_no_logit(name):
    text, candidates, marker_mask, text_mask = inputs(name)
    module = scorer(name)

    logits = module(text, candidates, marker_mask, text_mask)

    short = text[1:, :4] if name == "cross-attn" else text[1:]
    alone = module(short, candidates[1:, :3], marker_mask[1:, :3], text_mask[1:, :4])
    torch.testing.assert_close(logits[1, :3], alone[0], atol=TOLERANCE, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("name", SCORERS)
def test_what_lies_in_empty_slots_is_never_read(name):
    text, candidates, marker_mask, text_mask = inputs(name)
    module = scorer(name)
    other = candidates.masked_fill(~marker_mask[..., None], 7.0)

    changed = module(text, other, marker_mask, text_mask)

    assert torch.equal(changed[marker_mask], module(text, candidates, marker_mask, text_mask)[marker_mask])


@torch.no_grad()
@pytest.mark.parametrize("name", SCORERS)
def test_only_hopfield_lets_candidates_compete(name):
    text, candidates, marker_mask, text_mask = inputs(name)
    module = scorer(name)
    other = candidates.clone()
    other[0, 4] += 1

    before, after = (module(text, vectors, marker_mask, text_mask)[0, :4] for vectors in (candidates, other))

    moved = (after - before).abs().max().item()
    assert moved > 1e-3 if name == "hopfield" else moved <= TOLERANCE


def test_simple_is_the_dot_product():
    text = torch.tensor([[1.0, 2.0, -1.0]])
    candidates = torch.tensor([[[3.0, 0.0, 1.0], [0.0, 5.0, 2.0]]])

    logits = build_scorer(tiny_config("bert"))(text, candidates, torch.ones(1, 2, dtype=torch.bool), None)

    assert logits.tolist() == [[2.0, 8.0]]


@pytest.mark.parametrize(("name", "width"), [("mlp", 256), ("hopfield", 256), ("mlp", 34), ("hopfield", 34)])
def test_the_width_of_mlp_and_hopfield_comes_from_the_weights(name, width):
    config = tiny_config("bert", scorer_type=name, scorer_mlp_hidden_size=14)
    if width != 256:
        config = config.with_shapes({"scorer.mlp.0.weight": (width, 48)})

    assert build_scorer(config).mlp[0].out_features == width
