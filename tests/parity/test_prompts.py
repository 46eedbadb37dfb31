"""Every prompt form on every backbone; the same tokenizer makes them for all."""

import pytest
from asks import ASKS
from grids import thinned
from tiny import BACKBONES, LABELS, TEXT
from upstream import build_pair, check_same

SIDES = [(name, first) for name in BACKBONES for first in (True, False)]


@pytest.fixture(scope="module")
def sides(request, tmp_path_factory):
    backbone, prompt_first = request.param
    folder = tmp_path_factory.mktemp("prompts") / "checkpoint"
    pair = build_pair(
        folder, backbone, prompt_first=prompt_first, pooling_strategy="avg", class_token_pooling="average"
    )
    return pair.upstream, pair.classifier()


@pytest.mark.parametrize(("sides", "ask"), thinned(SIDES, list(ASKS), every=3), indirect=["sides"], ids=str)
def test_every_prompt_form_gives_upstreams_logits(sides, ask):
    upstream, ours = sides
    settings = {"text": TEXT, "labels": LABELS, **ASKS[ask]}
    check_same(ours.logits(**settings), upstream.logits(**settings))
