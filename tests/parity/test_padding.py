"""Padding never changes a logit: texts and label sets of any length in one batch score as they do alone.

Upstream's poolers, fused layers and hopfield scorer do let padding in; what is compared here are our own batches with
our own batches of one, which the other tests of this folder tie to upstream.
"""

import itertools

import pytest
from asks import FEW_SHOT
from grids import thinned
from tiny import BACKBONES, CORPUS, LABELS, TEXT

from gliclass_rerank.pipeline import Pipeline
from gliclass_rerank.prompt.layout import ScoringRequest
from gliclass_rerank.settings import ModelSettings
from gliclass_rerank.types import Example

POOLERS = ("first", "last", "max", "avg", "sum", "rms", "abs_max", "abs_avg")
SCORERS = ("simple", "weighted-dot", "mlp", "hopfield")
YES_AND_NO = (True, False)
TEXTS = [TEXT, "Oil", " ".join(CORPUS), "The brakes squeal.", "a prompt and an example are here"]
LABEL_SETS = [LABELS, LABELS[:1], LABELS[2:5], (*LABELS, *LABELS[1:]), LABELS[:2]]


def check_batches(folder):
    pipeline = Pipeline(ModelSettings(folder, device="cpu", batch_tokens=10**6))
    requests = [ScoringRequest(text, labels) for text, labels in zip(TEXTS, LABEL_SETS, strict=True)]
    if pipeline.plan is not None:
        examples = Example.list_of(FEW_SHOT)
        requests[-1] = ScoringRequest(TEXTS[-1], LABEL_SETS[-1], prompt="Classify: ", examples=examples)
    alone = [pipeline.score([request], truncate_side="text")[0].logits for request in requests]
    together = [scored.logits for scored in pipeline.score(requests, truncate_side="text")]
    for one, other in zip(alone, together, strict=True):
        # Float32 in another order; relative too, because a sum over all tokens is as large as the text is long.
        assert other == pytest.approx(one, abs=1e-5, rel=1e-5)


@pytest.mark.parametrize(
    ("pooler", "extract", "scorer"),
    [*thinned(POOLERS, YES_AND_NO, SCORERS), *(("pass", extract, "cross-attn") for extract in YES_AND_NO)],
)
def test_no_pooler_or_scorer_sees_padding(pair, pooler, scorer, extract):
    check_batches(
        pair(
            pooling_strategy=pooler,
            scorer_type=scorer,
            extract_text_features=extract,
            normalize_features=True,
            prompt_first=True,
        ).folder
    )


BACKBONE_FAMILIES = ("bert", "deberta", "modernbert", "t5")
HEAD_OPTIONS = [
    {"class_token_pooling": "average"},
    {"class_token_pooling": "average", "extract_text_features": True},
    {"class_token_pooling": "average", "embed_class_token": False},
    {"embed_class_token": False},
    {"prompt_first": False},
    {"use_lstm": True},
    {"use_lstm": True, "extract_text_features": True},
    {"use_calibrator": True, "calibrator_use_bias": True},
]
BACKBONE_OPTIONS = [{"use_segment_embeddings": True}, {"encoder_layer_id": 1}, {"squeeze_layers": True}]


@pytest.mark.parametrize(
    ("options", "backbone"),
    [*thinned(HEAD_OPTIONS, BACKBONE_FAMILIES), *itertools.product(BACKBONE_OPTIONS, BACKBONE_FAMILIES)],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_no_option_lets_padding_in(pair, backbone, options):
    common = {"pooling_strategy": "avg", "normalize_features": True, "prompt_first": True}
    check_batches(pair(backbone, **{**common, **options}).folder)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_no_backbone_sees_padding(pair, backbone):
    common = {"pooling_strategy": "avg", "class_token_pooling": "average", "normalize_features": True}
    check_batches(pair(backbone, **common).folder)


@pytest.mark.parametrize("pooler", POOLERS)
@pytest.mark.parametrize("architecture", ["bi-encoder", "bi-encoder-fused"])
def test_no_bi_encoder_sees_padding(biencoder, architecture, pooler):
    check_batches(biencoder(architecture, pooling_strategy=pooler, normalize_features=True, prompt_first=True).folder)
