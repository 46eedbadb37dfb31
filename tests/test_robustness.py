"""Failure modes of upstream's pipeline that a reranker must not have, each shown through the public API."""

import pytest
from tiny_checkpoints import tiny_tokenizer

from gliclass_rerank import Example, Reranker, ZeroShotClassifier

QUERY = "chain slip"
PLANS = ("joint", "shared_query")
MARKERS = ("<<LABEL>>", "<<SEP>>", "<<EXAMPLE>>", "[SEP]", "[CLS]", "[PAD]")


def logits(reranker, passages, query=QUERY, **options):
    return [hit.logit for hit in sorted(reranker.rank(query, passages, **options), key=lambda hit: hit.index)]


@pytest.mark.parametrize("plan", PLANS)
def test_passages_longer_than_any_window_never_push_the_query_out(tiny_folder, plan):
    reranker = Reranker(tiny_folder, device="cpu", plan=plan)
    passages = ["oil " * 500, "wax " * 700]

    first, second = logits(reranker, passages), logits(reranker, passages, query="brake squeal")

    assert min(abs(a - b) for a, b in zip(first, second, strict=True)) > 1e-3


@pytest.mark.parametrize("marker", MARKERS)
def test_a_marker_written_in_one_passage_changes_no_other_passages_logit(tiny_folder, marker):
    reranker = Reranker(tiny_folder, device="cpu", plan="shared_query")
    expected = logits(reranker, ["oil", "wax rust", "pump"])

    found = logits(reranker, ["oil", f"{marker} buy {marker}{marker}", "wax rust", "pump"])

    # Another group, other kernels; logits are of order 1.
    assert [found[0], *found[2:]] == pytest.approx(expected, abs=1e-5)


def test_markers_written_in_texts_never_become_markers(scripted):
    tokenizer = tiny_tokenizer()
    special = {tokenizer.token_to_id(marker) for marker in MARKERS}

    def special_tokens(suffix):
        reranker, backend = scripted({}, checkpoint="deberta-v2")
        example = Example(f"rust{suffix}", (f"hub{suffix}",), (f"cog{suffix}",))
        reranker.rank(f"chain{suffix} slip", ["wax", f"oil{suffix}", f"pump{suffix}"], examples=[example])
        (window,) = backend.windows
        assert len(window.markers) == 3
        return [index for index in window.token_ids if index in special]

    assert special_tokens(" " + " ".join(MARKERS)) == special_tokens("")


@pytest.mark.parametrize("count", [26, 30, 101])
def test_more_candidates_than_upstreams_25_all_get_a_logit_of_their_own(tiny_folder, count):
    reranker = Reranker(tiny_folder, device="cpu", plan="joint", max_window_tokens=211)
    passages = [f"oil {number}" for number in range(count)]

    found = logits(reranker, passages)

    assert len(set(found)) == count


def test_more_labels_than_upstreams_25_all_get_a_logit_of_their_own(tiny_folder):
    classifier = ZeroShotClassifier(tiny_folder, device="cpu", plan="joint")

    found = classifier.logits("chain slip on a wet road", [f"oil {number}" for number in range(37)])

    assert len(set(found)) == 37


@pytest.mark.parametrize("plan", PLANS)
def test_an_example_with_nothing_but_negatives_is_shown(tiny_folder, plan):
    reranker = Reranker(tiny_folder, device="cpu", plan=plan)

    without = logits(reranker, ["oil", "wax"])
    shown = logits(reranker, ["oil", "wax"], examples=[Example("brake squeal", false_labels=("oil",))])

    assert min(abs(a - b) for a, b in zip(without, shown, strict=True)) > 1e-4


def test_equal_passages_are_not_merged_into_one_hit(tiny_folder):
    ranking = Reranker(tiny_folder, device="cpu").rank(QUERY, ["oil", "oil", "wax", "oil"])

    assert sorted(hit.index for hit in ranking) == [0, 1, 2, 3]


def test_a_low_score_drops_no_passage(scripted):
    reranker, _ = scripted({"oil": -90.0, "wax": -91.0})

    assert [hit.index for hit in reranker.rank(QUERY, ["oil", "wax"])] == [0, 1]


def test_one_passage_is_a_ranking_of_one(tiny_folder):
    assert [hit.index for hit in Reranker(tiny_folder, device="cpu").rank(QUERY, ["oil"])] == [0]


def test_unknown_characters_and_control_codes_are_ranked(bundled):
    passages = ["日本語", "🚲🔧", "\x00\x01", "a\u200bb", "\ue000", "ﬁ \u202e rtl", "x" * 10_000]

    assert sorted(hit.index for hit in bundled.rank(QUERY, passages)) == list(range(len(passages)))
