"""Long texts, descriptions of labels, labels in groups, and what each text may have of its own."""

import math

import pytest
from example_stores import Source
from tiny_checkpoints import words

from gliclass_rerank import Example, InputError, ZeroShotClassifier

LABELS = ["oil", "wax"]
TEXTS = ["chain slip", "brake squeal"]
EXAMPLES = [Example("brake squeal", ("wax",)), Example("cold hand", ("oil",))]
LONG = words(20) + ". " + words(75, first=20)


@pytest.fixture(scope="module")
def narrow(tiny_folders):
    return ZeroShotClassifier(tiny_folders["bert"], device="cpu", max_window_tokens=40)


@pytest.fixture(scope="module")
def joint(tiny_folders):
    return ZeroShotClassifier(tiny_folders["deberta-v2"], device="cpu", max_window_tokens=60)


def scores_of(classifier, text, labels=LABELS, **arguments):
    return classifier.classify(text, labels, **arguments)[0].scores


def test_every_label_has_a_score_whichever_apply(scripted):
    classifier, _ = scripted({"oil": 0.0, "wax": 2.0}, kind=ZeroShotClassifier)

    (several,) = classifier.classify("chain", LABELS, threshold=0.6)
    (one,) = classifier.classify("chain", LABELS, multi_label=False)

    assert several.scores == pytest.approx((0.5, 1 / (1 + math.exp(-2))))
    assert [each.label for each in several] == ["wax"]
    assert one.scores == pytest.approx((1 / (1 + math.exp(2)), 1 / (1 + math.exp(-2))))
    assert one[0].score == one.scores[1]


def test_a_description_is_what_the_model_reads_and_the_label_what_comes_back(joint):
    descriptions = {"wax": "dry lube"}

    (found,) = joint.classify("chain", LABELS, 0, descriptions=descriptions)

    assert [each.label for each in found] == LABELS
    assert found.scores == scores_of(joint, "chain", ["oil", "wax: dry lube"])
    assert found.scores != scores_of(joint, "chain")


def test_each_text_may_have_a_prompt_of_its_own(joint):
    found = joint.classify(TEXTS, LABELS, prompt=["wet ", "dry "])

    assert [each.scores for each in found] == [
        pytest.approx(scores_of(joint, text, prompt=prompt), abs=1e-5)  # batches are padded
        for text, prompt in zip(TEXTS, ["wet ", "dry "], strict=True)
    ]


def test_each_text_may_have_examples_of_its_own(joint):
    found = joint.classify(TEXTS, LABELS, examples=[EXAMPLES, []])

    assert [each.examples for each in found] == [tuple(EXAMPLES), ()]
    assert found[0].scores == pytest.approx(scores_of(joint, TEXTS[0], examples=EXAMPLES), abs=1e-5)
    assert found[1].scores == pytest.approx(scores_of(joint, TEXTS[1], examples=[]), abs=1e-5)


def test_a_text_without_examples_of_its_own_gets_those_of_the_store(tiny_folders):
    source = Source([[EXAMPLES[1]]])
    classifier = ZeroShotClassifier(tiny_folders["bert"], device="cpu", example_store=source)

    found = classifier.classify(TEXTS, LABELS, examples=[[EXAMPLES[0]], None])

    assert [each.examples for each in found] == [(EXAMPLES[0],), (EXAMPLES[1],)]
    assert [asked[0] for asked in source.asked] == [[TEXTS[1]]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": ["one"]}, "`prompt` must hold one for each of the 2 texts, got 1"),
        ({"prompt": ["one", 7]}, r"`prompt\[1\]` must be a string, got 7"),
        ({"examples": [[], [], []]}, "`examples` must hold one for each of the 2 texts, got 3"),
        ({"examples": [EXAMPLES, EXAMPLES[0]]}, "an example must be an `Example` or a mapping"),
        ({"descriptions": {"wux": "dry"}}, "got 'wux'; did you mean 'wax'?"),
        ({"long_texts": "median"}, "`long_texts` must be one of `cut`, `max`, `mean`, got 'median'"),
        ({"labels_at_once": 0}, "`labels_at_once` must be a whole number of at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_refused(narrow, arguments, message):
    with pytest.raises(InputError, match=message):
        narrow.classify(TEXTS, LABELS, **arguments)


def test_a_long_text_is_read_whole_in_chunks_of_which_the_best_counts(narrow):
    (cut,) = narrow.classify(LONG, LABELS)
    (best,) = narrow.classify(LONG, LABELS, long_texts="max")
    (mean,) = narrow.classify(LONG, LABELS, long_texts="mean")

    assert cut.truncated is not None
    assert cut.num_chunks == 1
    assert best.truncated is mean.truncated is None
    assert best.num_chunks == mean.num_chunks > 1
    assert all(more > less for more, less in zip(best.scores, mean.scores, strict=True))


def test_chunks_are_pooled_label_by_label(narrow):
    parts = [part.text for (part,) in narrow._text_chunks(narrow._requests([LONG], [LABELS], None, None, None))]
    rows = [scores_of(narrow, part) for part in parts]

    for pooling, expected in (
        ("max", map(max, *rows)),
        ("mean", (sum(each) / len(rows) for each in zip(*rows, strict=True))),
    ):
        assert scores_of(narrow, LONG, long_texts=pooling) == pytest.approx(list(expected), abs=1e-6)


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_exactly_one_label_of_a_long_text_has_a_share_of_all(narrow, pooling):
    (found,) = narrow.classify(LONG, LABELS, multi_label=False, long_texts=pooling)

    assert math.fsum(found.scores) == pytest.approx(1)
    assert found[0].score == max(found.scores)


def test_a_short_text_is_the_same_however_long_ones_are_read(joint):
    assert joint.classify(TEXTS, LABELS, long_texts="mean") == joint.classify(TEXTS, LABELS)


def test_labels_of_one_group_do_not_see_those_of_another(joint):
    labels = ["oil", "wax", "rust", "hub", "rim"]
    apart = scores_of(joint, "chain", labels, labels_at_once=2)

    assert apart == pytest.approx(
        [score for few in (labels[:2], labels[2:4], labels[4:]) for score in scores_of(joint, "chain", few)], abs=1e-5
    )
    assert apart != pytest.approx(scores_of(joint, "chain", labels), abs=1e-5)


def test_invalid_unicode_in_a_text_is_replaced_and_told_of(joint):
    broken, whole = joint.classify(["chain \ud800", "chain \ufffd"], LABELS)

    assert (broken.is_repaired, whole.is_repaired) == (True, False)
    assert broken.scores == pytest.approx(whole.scores, abs=1e-5)


def test_a_premise_and_hypotheses_are_a_text_and_its_labels(joint):
    premises, hypotheses = TEXTS, ["the chain is dry", "the brake is loose"]

    pairs = joint.classify(premises, [[each] for each in hypotheses], 0)

    assert [each[0].label for each in pairs] == hypotheses
    assert [len(each.scores) for each in pairs] == [1, 1]
