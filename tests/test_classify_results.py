"""`ZeroShotClassifier.classify`: the results, and what a classifier shares with a reranker."""

import asyncio
import logging
import pickle

import pytest
from example_stores import Source

from gliclass_rerank import Classification, Example, InputError, LabelScore, Truncation, ZeroShotClassifier

LABELS = ["oil", "wax"]
LONG = "chain slip road wheel hub nut " * 16
EXAMPLE = Example("brake squeal", ("wax",), ("oil",))


@pytest.fixture(scope="module")
def narrow(tiny_folders):
    return ZeroShotClassifier(tiny_folders["bert"], device="cpu", max_window_tokens=40)


def test_a_classification_is_the_sequence_of_its_labels(scripted):
    classifier, _ = scripted({"oil": 0.0, "wax": 2.0}, kind=ZeroShotClassifier)

    (found,) = classifier.classify("chain", LABELS)

    assert isinstance(found, Classification)
    assert (found[0], len(found), [each.label for each in found]) == (LabelScore("oil", 0.5, 0), 2, LABELS)
    assert found == Classification(hits=tuple(found), scores=found.scores)
    with pytest.raises(AttributeError):
        found.truncated = None


@pytest.mark.parametrize("arguments", [{}, {"threshold": 0.0}, {"multi_label": False}, {"examples": [EXAMPLE]}])
def test_calling_the_classifier_gives_the_same_labels(narrow, arguments):
    texts, labels = ["chain slip", "brake squeal"], [LABELS, {"care": LABELS}]

    assert list(map(list, narrow.classify(texts, labels, **arguments))) == narrow(texts, labels, **arguments)


def test_a_cut_text_is_told_of_and_not_logged(narrow, caplog):
    with caplog.at_level(logging.WARNING):
        short, long = narrow.classify(["chain", LONG], LABELS)

    assert short.truncated is None
    assert (long.truncated.index, long.truncated.num_tokens) == (1, 96)
    assert 0 < long.truncated.num_lost < 96
    assert caplog.messages == []
    with caplog.at_level(logging.WARNING):
        narrow(["chain", LONG], LABELS)
    assert caplog.messages == [f"text 1 lost {long.truncated.num_lost} of its 96 tokens"]


def test_the_examples_and_their_cuts_are_told_of(tiny_folders):
    classifier = ZeroShotClassifier(tiny_folders["bert"], device="cpu", max_example_tokens=6)
    example = Example(LONG, ("wax",))

    (found,) = classifier.classify("chain", LABELS, examples=[example])

    assert found.examples == (example,)
    assert [type(cut) for cut in found.truncated_examples] == [Truncation]
    assert classifier.classify("chain", LABELS)[0].truncated_examples == ()


def test_the_examples_for_a_text_are_those_of_the_store(tiny_folders):
    source = Source([[EXAMPLE]])
    classifier = ZeroShotClassifier(tiny_folders["bert"], device="cpu", example_store=source)

    assert classifier.examples_for(["squeal"]) == [(EXAMPLE,)]
    assert classifier.classify("squeal", LABELS)[0].examples == (EXAMPLE,)


def test_wrong_arguments_are_refused(narrow):
    with pytest.raises(InputError, match="`threshold` must be between 0 and 1, got 2"):
        narrow.classify("chain", LABELS, threshold=2)
    with pytest.raises(InputError, match="must hold one list for each of the 1 texts, got 2"):
        asyncio.run(narrow.aclassify(["chain"], [LABELS, LABELS]))


def test_the_event_loop_goes_on_while_texts_are_classified(narrow):
    async def turns_meanwhile():
        turns = 0
        task = asyncio.ensure_future(narrow.aclassify([LONG] * 64, LABELS, examples=[EXAMPLE]))
        while not task.done():
            turns += 1
            await asyncio.sleep(0)
        return turns, await task

    turns, found = asyncio.run(turns_meanwhile())

    # In a loop that waits for the model there are one or two.
    assert turns > 10
    assert found == narrow.classify([LONG] * 64, LABELS, examples=[EXAMPLE])


def test_a_pickle_carries_the_settings_and_classifies_as_before(tiny_folders, narrow):
    assert narrow.settings == {"model": str(tiny_folders["bert"]), "device": "cpu", "max_window_tokens": 40}

    pickled = pickle.dumps(narrow)
    again = pickle.loads(pickled)

    assert len(pickled) < 1000
    assert (again.settings, str(again.device)) == (narrow.settings, "cpu")
    assert again.classify(LONG, LABELS) == narrow.classify(LONG, LABELS)


def test_the_former_name_of_a_setting_works_and_is_told_of(tiny_folders):
    with pytest.warns(DeprecationWarning, match="`allow_equal_texts` is called `allow_same_text` now"):
        classifier = ZeroShotClassifier(tiny_folders["bert"], device="cpu", allow_equal_texts=False)

    assert classifier.settings["allow_same_text"] is False
