"""Every prompt form on every backbone."""

import pytest
from asks import ASKS
from tiny import BACKBONES, LABELS, TEXT
from upstream import build_pair, check_same


@pytest.fixture(scope="module", params=[(name, first) for name in BACKBONES for first in (True, False)], ids=str)
def sides(request, tmp_path_factory):
    backbone, prompt_first = request.param
    folder = tmp_path_factory.mktemp("prompts") / "checkpoint"
    pair = build_pair(
        folder, backbone, prompt_first=prompt_first, pooling_strategy="avg", class_token_pooling="average"
    )
    return pair.upstream, pair.classifier()


@pytest.mark.parametrize("ask", ASKS)
def test_every_prompt_form_gives_upstreams_logits(sides, ask):
    upstream, ours = sides
    settings = {"text": TEXT, "labels": LABELS, **ASKS[ask]}
    check_same(ours.logits(**settings), upstream.logits(**settings))
