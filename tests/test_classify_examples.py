"""Classifying with a store of judged examples: the bundled model and a real store."""

import logging

import pytest
from example_stores import Source

from gliclass_rerank import BackendError, ConfigError, Example, ZeroShotClassifier
from gliclass_rerank.examples import ExampleStore, LocalEncoder

LABELS = ["transport", "food", "museums"]
CHAIN = Example("the bicycle chain slips when I pedal hard", ["transport"], ["food"])
PLANTS = Example("how do plants get their food?", ["food"], ["museums"])
CHAIN_TEXT, PLANTS_TEXT, OTHER_TEXT = (
    "why does my chain slip?",
    "what do plants feed on?",
    "is the museum open on Sunday?",
)


@pytest.fixture(scope="module")
def store():
    with ExampleStore(None, LocalEncoder(device="cpu")) as made:
        made.add([PLANTS, CHAIN])
        yield made


@pytest.fixture(scope="module")
def plain():
    return ZeroShotClassifier(device="cpu")


@pytest.fixture(scope="module")
def learned(store):
    return ZeroShotClassifier(device="cpu", example_store=store)


@pytest.mark.parametrize("example_format", [None, "rac", "few_shot"])
def test_each_text_is_shown_its_own_examples_as_if_by_hand(learned, plain, example_format):
    for text, by_hand in ((CHAIN_TEXT, [CHAIN]), (PLANTS_TEXT, [PLANTS]), (OTHER_TEXT, [])):
        assert learned.logits(text, LABELS, example_format=example_format) == plain.logits(
            text, LABELS, examples=by_hand, example_format=example_format
        )
    assert learned.logits(CHAIN_TEXT, LABELS) != plain.logits(CHAIN_TEXT, LABELS)


def test_many_texts_are_classified_as_each_alone_after_one_search(learned):
    texts = [CHAIN_TEXT, OTHER_TEXT, PLANTS_TEXT]
    source = Source([[CHAIN], [], [PLANTS]])

    together = learned(texts, LABELS, threshold=0)
    with_source = ZeroShotClassifier(device="cpu", example_store=source)(texts, LABELS, threshold=0)

    assert source.asked == [(texts, 3, 0.5, True)]
    assert with_source == together
    for text, found in zip(texts, together, strict=True):
        (alone,) = learned(text, LABELS, threshold=0)
        # Texts of other lengths in one batch take another kernel.
        assert [entry.score for entry in found] == pytest.approx([entry.score for entry in alone], abs=1e-5)


def test_examples_by_hand_and_none_at_all_take_the_place_of_the_stores(learned, plain):
    for by_hand in ([PLANTS], []):
        assert learned.logits(CHAIN_TEXT, LABELS, examples=by_hand) == plain.logits(
            CHAIN_TEXT, LABELS, examples=by_hand
        )
    assert learned(CHAIN_TEXT, LABELS, 0, examples=[]) == plain(CHAIN_TEXT, LABELS, 0)


def test_a_text_is_shown_its_own_judgement_unless_that_is_switched_off(store, learned, plain):
    text = f" {CHAIN.text.upper()}"
    measured = ZeroShotClassifier(device="cpu", example_store=store, allow_same_text=False)

    assert learned.logits(text, LABELS) == plain.logits(text, LABELS, examples=[CHAIN])
    assert measured.logits(text, LABELS) == plain.logits(text, LABELS)


def test_number_and_similarity_of_examples_can_be_set(store, plain):
    two = ZeroShotClassifier(device="cpu", example_store=store, num_examples=2, min_example_similarity=-1)
    none = ZeroShotClassifier(device="cpu", example_store=store, num_examples=0)
    strict = ZeroShotClassifier(device="cpu", example_store=store, min_example_similarity=0.9)

    assert two.logits(CHAIN_TEXT, LABELS) == plain.logits(CHAIN_TEXT, LABELS, examples=[CHAIN, PLANTS])
    assert none.logits(CHAIN_TEXT, LABELS) == plain.logits(CHAIN_TEXT, LABELS)
    assert strict.logits(CHAIN_TEXT, LABELS) == plain.logits(CHAIN_TEXT, LABELS)
    with pytest.raises(ConfigError, match="`num_examples` must be a whole number of at least 0, got -1"):
        ZeroShotClassifier(device="cpu", num_examples=-1)


def test_the_search_knows_nothing_of_the_prompt(store):
    source = Source([[CHAIN]])

    ZeroShotClassifier(device="cpu", example_store=source).logits(CHAIN_TEXT, LABELS, prompt="Topic: ")

    assert source.asked[0][0] == [CHAIN_TEXT]


def test_a_cut_example_is_logged(store, caplog):
    tight = ZeroShotClassifier(device="cpu", example_store=store, max_example_tokens=8)

    with caplog.at_level(logging.WARNING):
        tight([CHAIN_TEXT], LABELS)

    assert "example 0 of text 0 lost " in caplog.text


def test_a_path_is_opened_and_shared(tmp_path):
    path = tmp_path / "judged.db"
    one, other = (ZeroShotClassifier(device="cpu", example_store=path) for _ in range(2))
    one.example_store.add([CHAIN])

    assert other.logits(CHAIN_TEXT, LABELS) == one.logits(CHAIN_TEXT, LABELS, examples=[CHAIN])


def test_a_failing_source_is_a_backend_error():
    failing = ZeroShotClassifier(device="cpu", example_store=Source(error=TimeoutError("no answer")))

    with pytest.raises(BackendError, match="the example store failed: TimeoutError: no answer"):
        failing([CHAIN_TEXT], LABELS)
