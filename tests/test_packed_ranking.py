"""Rankings from packed passes: the same as from padded rows, and independent of all but query and passage."""

import random

import pytest
from tiny_checkpoints import write_tiny_checkpoint

from gliclass_rerank import Example, Reranker, ZeroShotClassifier

QUERY = "chain slip when wet"
EXAMPLES = (
    Example("brake squeal", true_labels=("clean rim and pad",), false_labels=("oil chain", "pump tire")),
    Example("loose spoke", false_labels=("wax chain",)),
)
# As in tests/test_invariance.py.
TOLERANCE = 1e-5
SMALL, LARGE = 64, 100_000


@pytest.fixture(params=["bert", "modernbert"])
def packable(request):
    return request.param


@pytest.fixture
def packed(monkeypatch):
    """Load a model that runs packed on the CPU, in plain attention."""

    def load(folder, *, kind=Reranker, **settings):
        with monkeypatch.context() as patched:
            patched.setattr(
                "gliclass_rerank.runtime.resolve.resolve_attention", lambda *_, **__: ("dense", "a test asks for it")
            )
            model = kind(folder, device="cpu", **settings)
        assert model.runtime.attention == "dense"
        return model

    return load


@pytest.fixture(params=[None, EXAMPLES], ids=["plain", "examples"])
def options(request):
    return {"examples": request.param}


def logits(ranking):
    return [hit.logit for hit in sorted(ranking, key=lambda hit: hit.index)]


@pytest.mark.parametrize("plan", ["shared_query", "joint"])
def test_a_packed_ranking_is_the_padded_one(packed, tiny_folders, packable, plan, passages, options):
    folder = tiny_folders[packable]
    expected = Reranker(folder, device="cpu", plan=plan).rank(QUERY, passages, **options)

    for batch_tokens in (SMALL, LARGE):
        found = packed(folder, plan=plan, batch_tokens=batch_tokens).rank(QUERY, passages, **options)

        assert logits(found) == pytest.approx(logits(expected), abs=TOLERANCE)
        assert (found.truncated, found.windows, found.truncated_examples) == (
            expected.truncated,
            expected.windows,
            expected.truncated_examples,
        )


def test_the_bundled_cascade_ranks_packed_as_padded(packed, bundled):
    passages = [f"passage {number} on {'chains ' * (number % 7)}of bicycles" for number in range(25)]
    queries = ["how do I oil a chain?", "why is the sky blue?"]

    found = packed(None).rank_many(queries, [passages, ["", passages[3]]])

    expected = bundled.rank_many(queries, [passages, ["", passages[3]]])
    for one, other in zip(found, expected, strict=True):
        assert logits(one) == pytest.approx(logits(other), abs=1e-4)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_any_permutation_gives_every_passage_the_same_bits(packed, tiny_folders, packable, passages, options, seed):
    reranker = packed(tiny_folders[packable], plan="shared_query", batch_tokens=SMALL)
    shuffled = random.Random(seed).sample(passages, k=len(passages))

    expected = dict(zip(passages, logits(reranker.rank(QUERY, passages, **options)), strict=True))
    found = dict(zip(shuffled, logits(reranker.rank(QUERY, shuffled, **options)), strict=True))

    assert found == expected


def test_companions_and_other_queries_change_no_logit(packed, tiny_folders, packable, passages):
    reranker = packed(tiny_folders[packable], plan="shared_query")
    together = logits(reranker.rank(QUERY, passages))

    alone = [logits(reranker.rank(QUERY, [passage]))[0] for passage in passages]
    _, among_others, _ = reranker.rank_many(["oil", QUERY, "rust on rim"], [passages[:5], passages, passages[3:]])

    assert alone == pytest.approx(together, abs=TOLERANCE)
    assert logits(among_others) == pytest.approx(together, abs=TOLERANCE)


def test_packed_rankings_agree_with_biased_keys_late_queries_segments_and_positions(packed, tmp_path, passages):
    ours = {"attention_plan": "shared_query", "query_key_bias": True, "use_segment_embeddings": True}
    folder = write_tiny_checkpoint(
        tmp_path / "tiny", "bert", query_attention_start=1, candidate_position_start=24, **ours
    )

    found = packed(folder).rank(QUERY, passages, examples=EXAMPLES)

    expected = Reranker(folder, device="cpu").rank(QUERY, passages, examples=EXAMPLES)
    assert logits(found) == pytest.approx(logits(expected), abs=TOLERANCE)


@pytest.mark.parametrize("plan", ["shared_query", "joint"])
def test_classification_runs_packed_too(packed, tiny_folders, packable, plan):
    folder, labels = tiny_folders[packable], ["oil", "brake squeal", "rust on rim", "wheel"]
    texts = ["the chain is dry", "a loud squeal when I brake", "oil"]

    found = packed(folder, kind=ZeroShotClassifier, plan=plan).classify(texts, labels, threshold=0)

    expected = ZeroShotClassifier(folder, device="cpu", plan=plan).classify(texts, labels, threshold=0)
    for one, other in zip(found, expected, strict=True):
        assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=TOLERANCE)
