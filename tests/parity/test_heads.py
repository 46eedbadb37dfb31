"""Every pooler with every scorer, and everything that chooses which states they read."""

import pytest
from grids import thinned

POOLERS = ("first", "last", "max", "avg", "sum", "rms", "abs_max", "abs_avg")
SCORERS = ("simple", "weighted-dot", "mlp", "hopfield")
YES_AND_NO = (True, False)


@pytest.mark.parametrize(
    ("pooler", "scorer", "extract"),
    [*thinned(POOLERS, SCORERS, YES_AND_NO), *(("pass", "cross-attn", extract) for extract in YES_AND_NO)],
)
def test_every_pooler_works_with_every_scorer(pair, pooler, scorer, extract):
    pair(pooling_strategy=pooler, scorer_type=scorer, extract_text_features=extract, prompt_first=True).check()


@pytest.mark.parametrize("prompt_first", YES_AND_NO)
@pytest.mark.parametrize("extract", YES_AND_NO)
@pytest.mark.parametrize("embed", YES_AND_NO)
@pytest.mark.parametrize("class_pooling", ["first", "average"])
@pytest.mark.parametrize(("pooler", "scorer"), [("avg", "simple"), ("pass", "cross-attn")])
def test_candidates_are_read_in_every_way(pair, pooler, scorer, class_pooling, embed, extract, prompt_first):
    pair(
        "deberta",
        pooling_strategy=pooler,
        scorer_type=scorer,
        class_token_pooling=class_pooling,
        embed_class_token=embed,
        extract_text_features=extract,
        prompt_first=prompt_first,
    ).check()
