"""The public `ZeroShotClassifier`: label sets, thresholds and what a wrong argument is told."""

import copy
import dataclasses
import json
import logging
import math
import shutil

import pytest

from gliclass_rerank import ConfigError, Example, InputError, LabelScore, WindowOverflowError, ZeroShotClassifier
from gliclass_rerank.checkpoint.loading import load_checkpoint, save_checkpoint
from gliclass_rerank.classifier import flatten_labels
from gliclass_rerank.model.label_scores import label_margins

TEXT = "chain slip on a wet road"
LABELS = ["oil", "wax", "rust"]
LOGITS = {"oil": 0.0, "wax": 2.0, "rust": -1.0}
HIERARCHY = {"care": {"wet": ["oil", "wax"], "dry": "rust"}, "tool": ["wrench"]}
EXAMPLES = [{"text": "brake squeal", "labels": ["rust"], "all_labels": ["rust", "oil"]}]


@pytest.fixture
def table(scripted):
    """A classifier that looks its logits up in `LOGITS`."""
    return scripted(LOGITS, kind=ZeroShotClassifier)[0]


def sigmoid(logit):
    return 1 / (1 + math.exp(-logit))


def test_logits_come_in_label_order(table):
    assert table.logits(TEXT, ["rust", "oil", "wax"]) == [-1.0, 0.0, 2.0]


def test_several_labels_may_apply_and_the_threshold_itself_is_enough(table):
    (found,) = table([TEXT], LABELS, threshold=0.5)

    # 0.5 is the score of logit 0; float64 arithmetic.
    assert found == [LabelScore("oil", 0.5, 0), LabelScore("wax", pytest.approx(sigmoid(2), rel=1e-12), 1)]


@pytest.mark.parametrize(("threshold", "expected"), [(0, [0, 1, 2]), (0.501, [1]), (1.0, [])])
def test_the_threshold_selects_and_the_order_is_the_callers(table, threshold, expected):
    (found,) = table([TEXT], LABELS, threshold)

    assert [entry.index for entry in found] == expected


def test_exactly_one_label_is_the_largest_share_of_the_softmax(table):
    (found,) = table([TEXT], LABELS, multi_label=False)

    total = sum(math.exp(logit) for logit in LOGITS.values())
    assert found == [LabelScore("wax", pytest.approx(math.exp(2) / total, rel=1e-12), 1)]  # float64 arithmetic


def test_the_threshold_has_no_effect_on_a_single_label(table):
    assert table([TEXT], LABELS, 1.0, multi_label=False) == table([TEXT], LABELS, 0.0, multi_label=False)


def test_a_tie_for_the_single_label_goes_to_the_first(scripted):
    classifier, _ = scripted({"oil": 1.0, "wax": 3.0, "rust": 3.0}, kind=ZeroShotClassifier)

    assert [entry.label for entry in classifier(TEXT, LABELS, multi_label=False)[0]] == ["wax"]


def test_one_text_gives_a_list_of_one_result(table):
    assert table(TEXT, LABELS) == table([TEXT], LABELS)


def test_each_text_may_have_labels_of_its_own(table):
    found = table([TEXT, "brake squeal"], [["wax"], ["rust", "oil"]], 0)

    assert [[entry.label for entry in row] for row in found] == [["wax"], ["rust", "oil"]]


def test_each_text_may_have_a_hierarchy_of_its_own(scripted):
    classifier, _ = scripted({}, kind=ZeroShotClassifier)

    found = classifier([TEXT, TEXT], [{"care": ["oil"]}, {"tool": ["wrench"]}], 0)

    assert [[entry.label for entry in row] for row in found] == [["care.oil"], ["tool.wrench"]]


def test_a_hierarchy_is_flattened_to_dotted_names_in_its_order():
    assert flatten_labels(HIERARCHY) == ("care.wet.oil", "care.wet.wax", "care.dry.rust", "tool.wrench")


def test_the_names_of_a_hierarchy_are_what_the_model_reads(classifier):
    assert classifier.logits(TEXT, HIERARCHY) == classifier.logits(TEXT, list(flatten_labels(HIERARCHY)))


@pytest.mark.parametrize("labels", [[], {}, {"care": []}])
def test_no_labels_give_an_empty_result(classifier, labels):
    assert classifier.logits(TEXT, labels) == []
    assert classifier([TEXT, TEXT], labels) == [[], []]
    assert classifier([TEXT], labels, multi_label=False) == [[]]


def test_no_texts_give_no_results(classifier):
    assert classifier([], LABELS) == []


def test_equal_labels_are_scored_each(classifier):
    assert len(classifier.logits(TEXT, ["oil", "oil", "wax"])) == 3


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("oil", "`labels` must be a list of strings, got 'oil'"),
        (None, "`labels` must be a list of strings, got None"),
        (7, "`labels` must be a list of strings, got 7"),
        (["oil", math.nan], "`labels[1]` must be a string, got nan"),
        ({"care": None}, "`labels` must be a list of strings, got None"),
        ({7: ["oil"]}, "a key of `labels` must be a string, got 7"),
    ],
)
def test_labels_of_another_form_are_refused(classifier, labels, message):
    with pytest.raises(InputError) as caught:
        classifier.logits(TEXT, labels)
    assert str(caught.value) == message
    with pytest.raises(InputError) as caught:
        classifier([TEXT], labels)
    assert str(caught.value) == message


def test_label_lists_must_be_as_many_as_the_texts(classifier):
    with pytest.raises(InputError) as caught:
        classifier([TEXT], [["oil"], ["wax"]])

    assert str(caught.value) == "`labels` must hold one list for each of the 1 texts, got 2"


@pytest.mark.parametrize("text", [None, math.nan, 7])
def test_a_text_that_is_no_string_is_refused(classifier, text):
    with pytest.raises(InputError, match=f"must be a string, got {text!r}"):
        classifier.logits(text, LABELS)
    with pytest.raises(InputError, match=rf"`texts\[1\]` must be a string, got {text!r}"):
        classifier([TEXT, text], LABELS)


@pytest.mark.parametrize("threshold", [-0.1, 1.5, True, None, math.nan, "0.5"])
def test_a_threshold_outside_0_to_1_is_refused(classifier, threshold):
    with pytest.raises(InputError) as caught:
        classifier([TEXT], LABELS, threshold)

    assert str(caught.value) == f"`threshold` must be between 0 and 1, got {threshold!r}"


def test_a_blank_text_is_classified(classifier):
    assert all(math.isfinite(logit) for logit in classifier.logits("", LABELS))


def test_several_texts_change_each_other_by_rounding_only(classifier):
    texts = [TEXT, "oil", "brake squeal when wet and cold " * 5]

    found = classifier(texts, LABELS, 0)

    for text, row in zip(texts, found, strict=True):
        # Padding takes another attention kernel; scores are below 1.
        expected = [sigmoid(logit) for logit in classifier.logits(text, LABELS)]
        assert [entry.score for entry in row] == pytest.approx(expected, abs=1e-5)


def test_a_prompt_changes_the_logits(classifier):
    assert classifier.logits(TEXT, LABELS, prompt="care of the chain: ") != classifier.logits(TEXT, LABELS)


def test_a_prompt_that_is_no_string_is_refused(classifier):
    with pytest.raises(InputError, match="`prompt` must be a string, got 7"):
        classifier.logits(TEXT, LABELS, prompt=7)


def test_examples_change_the_logits_in_both_formats(classifier):
    plain, rac, few_shot = (
        classifier.logits(TEXT, LABELS, examples=given, example_format=kind)
        for given, kind in ((None, None), (EXAMPLES, "rac"), (EXAMPLES, "few_shot"))
    )

    assert plain != rac != few_shot != plain


def test_a_checkpoint_with_an_example_token_writes_few_shot_examples(classifier):
    by_default = classifier.logits(TEXT, LABELS, examples=EXAMPLES)

    assert by_default == classifier.logits(TEXT, LABELS, examples=EXAMPLES, example_format="few_shot")


def test_an_unknown_example_format_lists_the_known_ones(classifier):
    with pytest.raises(InputError) as caught:
        classifier.logits(TEXT, LABELS, example_format="nonsense")

    assert str(caught.value) == "`example_format` must be one of `few_shot`, `rac`, got 'nonsense'"


def test_nothing_the_caller_passes_is_changed(classifier):
    texts, labels, examples = [TEXT], copy.deepcopy(HIERARCHY), copy.deepcopy(EXAMPLES)

    classifier(texts, labels, examples=examples, multi_label=False)

    assert (texts, labels, examples) == ([TEXT], HIERARCHY, EXAMPLES)


@pytest.mark.parametrize("plan", ["joint", "shared_query"])
def test_a_long_text_is_cut_with_a_warning_and_labels_are_not(tiny_folder, plan, caplog):
    classifier = ZeroShotClassifier(tiny_folder, device="cpu", plan=plan, max_window_tokens=31)
    lost = 97 + 2 - 31 if plan == "shared_query" else 97 + 3 + 6 - 31

    with caplog.at_level(logging.WARNING):
        found = classifier(["oil", "wax " * 97], LABELS, 0)

    assert [len(row) for row in found] == [3, 3]
    assert caplog.messages == [f"text 1 lost {lost} of its 97 tokens"]


def test_labels_that_leave_no_room_for_the_text_are_an_error(tiny_folders):
    classifier = ZeroShotClassifier(tiny_folders["deberta-v2"], device="cpu", max_window_tokens=31)

    with pytest.raises(WindowOverflowError, match="leave no room for the text"):
        classifier.logits(TEXT, ["oil " * 29])


def test_many_labels_are_spread_over_windows_in_their_order(scripted):
    labels = [f"oil {number}" for number in range(61)]
    logits = {label: float(number) for number, label in enumerate(labels)}
    classifier, backend = scripted(logits, kind=ZeroShotClassifier, checkpoint="deberta-v2", max_window_tokens=61)

    assert classifier.logits("wax " * 100, labels) == list(logits.values())
    assert len(backend.windows) > 1


def test_examples_are_values_of_their_own():
    example = Example("oil", ["wax"], "rust")

    assert example == Example("oil", ("wax",), ("rust",))
    assert Example.of({"text": "oil", "labels": ["wax"], "all_labels": ["rust", "wax", "hub"]}) == (
        Example("oil", ("wax",), ("rust", "hub"))
    )


@pytest.fixture(scope="module")
def by_margin(tiny_folders, tmp_path_factory):
    """A classifier with a calibration of labels, and its checkpoint without."""
    folder = tmp_path_factory.mktemp("by-margin") / "bert"
    checkpoint = load_checkpoint(tiny_folders["bert"])
    config = dataclasses.replace(checkpoint.config, label_calibration=(2.0, -0.5, 0.25))
    save_checkpoint(dataclasses.replace(checkpoint, config=config), folder)
    return ZeroShotClassifier(folder, device="cpu")


def test_a_calibrated_checkpoint_scores_labels_by_their_margin_over_the_best_other_one(by_margin):
    logits = by_margin.logits(TEXT, LABELS)
    (found,) = by_margin([TEXT], LABELS, threshold=0)

    for entry in found:
        margin = logits[entry.index] - max(logits[: entry.index] + logits[entry.index + 1 :])
        assert entry.score == pytest.approx(sigmoid(2 * margin - 0.5), rel=1e-12)


def test_a_lone_label_is_compared_with_the_stand_in(by_margin):
    (logit,) = by_margin.logits(TEXT, ["oil"])

    assert by_margin([TEXT], ["oil"], threshold=0) == [
        [LabelScore("oil", pytest.approx(sigmoid(2 * (logit - 0.25) - 0.5), rel=1e-12), 0)]
    ]
    assert by_margin([TEXT], []) == [[]]


def test_the_single_label_is_chosen_by_the_softmax_of_the_logits_still(by_margin):
    logits = by_margin.logits(TEXT, LABELS)
    (found,) = by_margin([TEXT], LABELS, multi_label=False)

    assert found[0].score == pytest.approx(1 / sum(math.exp(each - max(logits)) for each in logits), rel=1e-12)


@pytest.mark.parametrize(("logits", "margins"), [([1.0, 3.0, 2.5], [-2.0, 0.5, -0.5]), ([2.0, 2.0], [0.0, 0.0])])
def test_margins(logits, margins):
    assert label_margins(logits, -9.0) == margins


@pytest.mark.parametrize("value", [[1, 2], [0, 1, 2], "abc", [1, 2, None]])
def test_a_broken_calibration_of_labels_is_refused(tiny_folders, tmp_path, value):
    folder = shutil.copytree(tiny_folders["bert"], tmp_path / "bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "label_calibration": value}))

    with pytest.raises(ConfigError, match="`label_calibration` must be a slope above 0, an intercept and a logit, got"):
        ZeroShotClassifier(folder)
