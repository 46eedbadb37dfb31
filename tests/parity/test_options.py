"""Every other option of the uni-encoder, alone and in the company it keeps in published checkpoints."""

import itertools
import json
from functools import cache

import pytest
from asks import ASKS, FEW_SHOT, RAC
from gliclass import layers
from gliclass import model as gliclass_model
from grids import thinned
from tiny import BACKBONES, LABELS, TEXT
from upstream import TOLERANCE, build_pair

from gliclass_rerank.runtime import export

YES_AND_NO = (True, False)
MAIN = ("bert", "deberta", "modernbert")
EXAMPLES = ({}, {"examples": FEW_SHOT, "example_format": "few_shot"}, {"examples": RAC, "example_format": "rac"})

# Options without weights of their own: with equal seeds only the option can move a logit.
WEIGHTLESS = {
    "pooling_strategy": ["last", "max", "avg", "sum", "rms", "abs_max", "abs_avg"],
    "class_token_pooling": ["average"],
    "embed_class_token": [False],
    "extract_text_features": [True],
    "normalize_features": [True],
    "prompt_first": [False],
    "projector_hidden_act": ["relu", "tanh", "gelu_new", "silu", "linear"],
    "encoder_layer_id": [0, 1, -2],
}


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory):
    """Upstream's logits without the option; each model is built once."""

    @cache
    def logits(backbone, **common):
        return build_pair(tmp_path_factory.mktemp("unchanged"), backbone, **common).upstream.logits(TEXT, LABELS)

    return logits


@pytest.mark.parametrize(
    ("option", "value"), [(option, value) for option, values in WEIGHTLESS.items() for value in values]
)
@pytest.mark.parametrize("backbone", MAIN)
def test_an_option_moves_the_logits_as_it_does_upstream(pair, unchanged, backbone, option, value):
    common = {"prompt_first": True}
    if option == "encoder_layer_id":  # upstream must keep all layers; below the first one all markers are alike
        common |= {"layer_wise": True, "class_token_pooling": "average"}
    changed = pair(backbone, **{**common, option: value})
    before, after = unchanged(backbone, **common), changed.upstream.logits(TEXT, LABELS)
    assert max(abs(a - b) for a, b in zip(before, after, strict=True)) > 10 * TOLERANCE, "the option does not show"
    changed.check()


@pytest.mark.parametrize("scorer", ["simple", "weighted-dot", "mlp", "hopfield", "cross-attn"])
def test_normalised_features_go_with_every_scorer(pair, scorer):
    pooler = "pass" if scorer == "cross-attn" else "avg"
    pair(scorer_type=scorer, pooling_strategy=pooler, normalize_features=True).check()


@pytest.mark.parametrize("hidden_size", [8, 44])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_projectors_may_be_narrower_or_wider_than_the_encoder(pair, backbone, hidden_size):
    pair(backbone, hidden_size=hidden_size, prompt_first=True, pooling_strategy="avg").check()


@pytest.mark.parametrize(
    ("pooler", "extract", "prompt_first"),
    thinned(["first", "last", "avg", "max", "sum", "rms"], YES_AND_NO, YES_AND_NO),
)
def test_an_lstm_runs_over_the_text_states(pair, pooler, extract, prompt_first):
    pair(use_lstm=True, pooling_strategy=pooler, extract_text_features=extract, prompt_first=prompt_first).check()


def test_an_lstm_runs_below_cross_attention(pair):
    pair(use_lstm=True, pooling_strategy="pass", scorer_type="cross-attn", prompt_first=True).check()


@pytest.mark.parametrize("prompt_first", YES_AND_NO)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_segment_embeddings_tell_candidates_text_and_examples_apart(pair, backbone, prompt_first):
    encoder = {"embedding_size": 32} if backbone == "electra" else {}  # upstream gives segments the encoder's width
    built = pair(backbone, encoder=encoder, use_segment_embeddings=True, prompt_first=prompt_first)
    for examples in EXAMPLES:
        built.check(**examples)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("reading", ["without embeddings", "with embeddings"])
def test_layers_are_fused_in_both_readings_of_the_broken_original(pair, monkeypatch, backbone, reading):
    """Upstream sizes the layer for N layers, feeds it N + 1 states and crashes; either number can be the wrong one."""
    if reading == "without embeddings":
        forward = layers.LayerwiseAttention.forward
        monkeypatch.setattr(layers.LayerwiseAttention, "forward", lambda self, states: forward(self, states[1:]))
    else:
        original = layers.LayerwiseAttention
        monkeypatch.setattr(
            gliclass_model, "LayerwiseAttention", lambda num_layers, width: original(num_layers + 1, width)
        )
    built = pair(backbone, squeeze_layers=True, prompt_first=True, pooling_strategy="avg")
    built.check()
    built.check(labels=LABELS[:1])


def test_upstream_still_cannot_fuse_layers(pair):
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        pair(squeeze_layers=True).upstream.logits(TEXT, LABELS)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("layer", [0, 1, 2, -2])
def test_any_hidden_state_can_be_read(pair, backbone, layer):
    built = pair(
        backbone,
        encoder_layer_id=layer,
        layer_wise=True,  # makes upstream keep all layers
        prompt_first=True,
        class_token_pooling="average",  # below the first layer all markers are alike
    )
    built.check()


@pytest.mark.parametrize(
    ("scorer", "normalize", "use_bias"),
    thinned(["simple", "weighted-dot", "mlp", "hopfield"], YES_AND_NO, YES_AND_NO),
)
def test_a_calibrator_rescales_every_scorers_logits(pair, scorer, normalize, use_bias):
    built = pair(
        use_calibrator=True,
        calibrator_use_bias=use_bias,
        calibrator_beta_max=2.5,
        scorer_type=scorer,
        normalize_features=normalize,
        pooling_strategy="avg",
    )
    built.check()
    built.check(labels=LABELS[:1])


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_table_has_the_checkpoints_size_not_the_encoder_configs(pair, backbone):
    """Upstream resizes the table when markers were added after the encoder's config was written."""
    built = pair(backbone)
    values = json.loads((built.folder / "config.json").read_text())
    values["encoder_config"]["vocab_size"] -= 3
    (built.folder / "config.json").write_text(json.dumps(values))
    built.check()


# What reference/gliclass.md section 6 tells of published checkpoints.
PUBLISHED = {
    "v1.0": ("deberta", {"pooling_strategy": "avg"}),
    "modern": ("modernbert", {"prompt_first": True}),
    "v3.0": ("deberta", {"prompt_first": True, "scorer_type": "mlp", "pooling_strategy": "avg"}),
    "edge": ("modernbert", {"prompt_first": True, "scorer_type": "mlp"}),
    "instruct": (
        "deberta",
        {
            "prompt_first": True,
            "class_token_pooling": "average",
            "use_segment_embeddings": True,
            "scorer_type": "mlp",
            "problem_type": "multi_label_classification",
        },
    ),
    "instruct-edge": (
        "modernbert",
        {
            "prompt_first": True,
            "class_token_pooling": "average",
            "use_segment_embeddings": True,
            "scorer_type": "mlp",
        },
    ),
    "multilang": ("modernbert", {"prompt_first": True, "scorer_type": "cross-attn", "pooling_strategy": "pass"}),
    "multilang-ultra": ("umt5", {"prompt_first": True, "scorer_type": "cross-attn", "pooling_strategy": "pass"}),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_layouts_of_published_checkpoints_agree_on_every_prompt_form(pair, name):
    backbone, options = PUBLISHED[name]
    built = pair(backbone, **options)
    for ask in ASKS.values():
        built.check(**ask)


@pytest.mark.parametrize("package", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", sorted(PUBLISHED.keys() - {"multilang-ultra"}))  # whose backbone cannot be exported
def test_exported_layouts_of_published_checkpoints_agree(pair, name, package, tmp_path, monkeypatch):
    pytest.importorskip(package)
    monkeypatch.setattr(export, "default_cache_folder", lambda: tmp_path / "cache")
    backbone, options = PUBLISHED[name]
    built = pair(backbone, **options)
    ours = built.classifier(backend=package.removesuffix("runtime"))
    for ask in (ASKS["plain"], ASKS["a prompt and few-shot examples"], ASKS["a long text"]):
        settings = {"text": TEXT, "labels": LABELS, **ask}
        # Other kernels than upstream's, and logits that are dot products of vectors far longer than 1.
        expected = built.upstream.logits(**settings)
        assert ours.logits(**settings) == pytest.approx(expected, abs=10 * TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("class_pooling", "embed", "extract", "prompt_first"),
    [*itertools.product(("first", "average"), YES_AND_NO, YES_AND_NO, YES_AND_NO)],
)
@pytest.mark.parametrize("extra", [{}, {"use_lstm": True}, {"use_segment_embeddings": True}, {"use_calibrator": True}])
@pytest.mark.parametrize("pooler", ["first", "last", "avg", "max"])
@pytest.mark.parametrize("backbone", MAIN)
def test_options_do_not_disturb_each_other(pair, backbone, pooler, extra, class_pooling, embed, extract, prompt_first):
    built = pair(
        backbone,
        pooling_strategy=pooler,
        class_token_pooling=class_pooling,
        embed_class_token=embed,
        extract_text_features=extract,
        prompt_first=prompt_first,
        **extra,
    )
    built.check()
    for examples in EXAMPLES[1:]:
        built.check(**examples)
