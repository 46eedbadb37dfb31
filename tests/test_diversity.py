"""Rankings without repetition: the order of choice, near-duplicates, and what is refused."""

import numpy as np
import pytest

from gliclass_rerank import InputError, Reranker
from gliclass_rerank.diversity.selection import marginal_relevance

QUERY = "how do I reset my password?"
PASSAGES = [
    "Opening hours are 9 to 5 on weekdays.",
    "To reset your password, click 'Forgot password' on the sign-in page.",
    "You can reset a password by clicking 'Forgot password' on the page where you sign in!",
    "Administrators can set a new password for any user in the console.",
    "To reset your password, click 'Forgot password' on the sign-in page.",
]


def unit(*rows):
    vectors = np.asarray(rows, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_repetition_gives_way_to_something_new_that_is_relevant():
    vectors = unit([1, 0, 0], [1, 0.1, 0], [0, 1, 0], [0, 0, 1])

    order, repeats = marginal_relevance([0.9, 0.8, 0.5, 0.01], vectors, 0.9, [1] * 4)

    assert order == [0, 2, 1, 3]
    assert repeats == [None, None, 0, None]


def test_the_irrelevant_never_passes_the_relevant_for_being_different():
    order, _ = marginal_relevance([0.9, 0.6, 0.001], unit([1, 0], [1, 1], [0, 1]), 1.0, [1] * 3)

    assert order == [0, 1, 2]


@pytest.mark.parametrize("count", [1, 3, 60])
def test_without_weight_the_order_stays_and_the_choice_is_that_of_a_plain_loop(count):
    rng = np.random.default_rng(3)
    vectors = unit(*rng.normal(size=(60, 5)) + 1)
    scores = sorted(rng.random(60), reverse=True)

    assert marginal_relevance(scores, vectors, 0.0, [1] * 60, count)[0] == list(range(count))

    left, chosen = list(range(60)), []
    while len(chosen) < count:
        gains = [
            scores[place] * (1 - 0.7 * max([0.0, *(float(vectors[place] @ vectors[each]) for each in chosen)]))
            for place in left
        ]
        chosen.append(left.pop(int(np.argmax(gains))))
    assert marginal_relevance(scores, vectors, 0.7, [1] * 60, count)[0] == chosen


def test_judgements_count_more_than_difference():
    order, _ = marginal_relevance([1.0, 1.0, 0.9, 0.0], unit([1, 0], [1, 0], [0, 1], [1, 1]), 1.0, [0, 0, 1, 2])

    assert order == [0, 1, 2, 3]


def test_the_bundled_model_reports_near_duplicates_and_puts_them_later(bundled):
    plain = bundled.rank(QUERY, PASSAGES)
    diverse = bundled.rank(QUERY, PASSAGES, diversity=1)

    assert [hit.index for hit in plain[:3]] == [1, 4, 2]
    assert [hit.index for hit in diverse[:2]] == [1, 3]
    assert {hit.index: hit.repeats for hit in diverse} == {1: None, 3: None, 2: 1, 4: 1, 0: None}
    assert {hit.index: hit.score for hit in diverse} == {hit.index: hit.score for hit in plain}
    assert diverse[-1].to_dict().get("repeats") == diverse[-1].repeats
    assert [hit.repeats for hit in plain] == [None] * 5


def test_diversity_0_keeps_the_order_and_still_reports(bundled):
    ranking = bundled.rank(QUERY, PASSAGES, diversity=0)

    assert [hit.index for hit in ranking] == [hit.index for hit in bundled.rank(QUERY, PASSAGES)]
    assert {hit.index for hit in ranking if hit.repeats is not None} == {2, 4}


def test_top_k_counts_after_the_choice_and_spans_go_with_it(bundled):
    ranking = bundled.rank(QUERY, PASSAGES, diversity=1, top_k=2, spans=True)

    assert [hit.index for hit in ranking] == [1, 3]
    assert all(hit.spans for hit in ranking)
    assert list(bundled.rank(QUERY, [], diversity=1)) == []


@pytest.mark.parametrize("value", [-0.1, 1.1, "high", True, float("nan")])
def test_a_diversity_out_of_range_is_refused(bundled, value):
    with pytest.raises(InputError, match="`diversity` must be between 0 and 1, got "):
        bundled.rank(QUERY, PASSAGES, diversity=value)


def test_every_backbone_has_vectors_of_unit_length_that_depend_on_the_text_alone(tiny_folder):
    pipeline = Reranker(tiny_folder, device="cpu")._pipeline

    vectors = pipeline.passage_vectors(["oil", "oil chain wax", "", "oil chain wax"])

    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    assert vectors[1] == pytest.approx(vectors[3], abs=1e-5)  # other padding
    assert pipeline.passage_vectors(["oil"])[0] == pytest.approx(vectors[0], abs=1e-5)
    assert not np.allclose(vectors[0], vectors[1], atol=1e-3)
