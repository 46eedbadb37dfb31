"""What `Reranker` says to arguments it cannot use: one sentence with the constraint and the value."""

import math

import numpy as np
import pytest

from gliclass_rerank import ConfigError, Example, InputError, Reranker, WindowOverflowError

QUERY = "chain slip"


@pytest.mark.parametrize("top_k", [0, -1, True, 1.5, "1"])
def test_top_k_below_one_or_of_another_type_is_refused(bundled, top_k):
    with pytest.raises(InputError) as caught:
        bundled.rank(QUERY, ["oil"], top_k=top_k)

    assert str(caught.value) == f"`top_k` must be a whole number of at least 1, got {top_k!r}"


def test_passages_may_be_any_iterable_of_strings(bundled):
    expected = bundled.rank(QUERY, ["oil", "wax"])

    assert bundled.rank(QUERY, ("oil", "wax")) == expected
    assert bundled.rank(QUERY, (word for word in ["oil", "wax"])) == expected


@pytest.mark.parametrize(
    ("passages", "message"),
    [
        ("oil", "`passages` must be a list of strings, got 'oil'"),
        (None, "`passages` must be a list of strings, got None"),
        ({"oil": 1}, "`passages` must be a list of strings, got {'oil': 1}"),
        (["oil", math.nan], "`passages[1]` must be a string, got nan"),
        (["oil", "wax", None], "`passages[2]` must be a string, got None"),
        ([b"oil"], "`passages[0]` must be a string, got b'oil'"),
        ([{"id": 1}], "`passages[0]` needs the key `text`, got the keys ['id']"),
        ([{"text": None}], "`passages[0]`'s `text` must be a string, got None"),
        ([{"text": "oil", "metadata": 7}], "`passages[0]`'s `metadata` must be a mapping, got 7"),
    ],
)
def test_passages_of_another_type_are_refused_with_their_place(bundled, passages, message):
    with pytest.raises(InputError) as caught:
        bundled.rank(QUERY, passages)

    assert str(caught.value) == message


@pytest.mark.parametrize("query", ["", " ", "\n\t"])
def test_a_blank_query_is_refused(bundled, query):
    with pytest.raises(InputError) as caught:
        bundled.rank(query, ["oil"])

    assert str(caught.value) == f"`query` must not be blank, got {query!r}"


@pytest.mark.parametrize("query", [None, math.nan, 7])
def test_a_query_that_is_no_string_is_refused(bundled, query):
    with pytest.raises(InputError, match=f"must be a string, got {query!r}"):
        bundled.rank(query, ["oil"])


def test_an_unknown_plan_lists_the_known_ones():
    with pytest.raises(ConfigError) as caught:
        Reranker(plan="nonsense")

    assert str(caught.value) == "`plan` must be one of `joint`, `shared_query`, got 'nonsense'"


def test_a_window_longer_than_the_backbones_positions_is_refused(tiny_folders):
    with pytest.raises(ConfigError) as caught:
        Reranker(tiny_folders["bert"], device="cpu", max_window_tokens=212)

    assert str(caught.value) == "`max_window_tokens` must be between 8 and 211, got 212"


@pytest.mark.parametrize("tokens", [5, 7.5, "64", True])
def test_a_window_without_room_for_query_and_passage_is_refused_at_construction(tiny_folders, tokens):
    with pytest.raises(ConfigError, match=f"`max_window_tokens` must be between 8 and 211, got {tokens!r}"):
        Reranker(tiny_folders["bert"], device="cpu", max_window_tokens=tokens)


def test_an_unknown_way_to_treat_long_texts_lists_the_known_ones(tiny_folders):
    for setting, known in (("long_query", "`cut`, `error`"), ("long_passages", "`best_chunk`, `cut`")):
        with pytest.raises(ConfigError, match=f"`{setting}` must be one of {known}, got 'drop'"):
            Reranker(tiny_folders["bert"], device="cpu", **{setting: "drop"})


def test_a_query_that_fills_the_window_is_an_error_on_request(tiny_folder):
    reranker = Reranker(tiny_folder, device="cpu", max_window_tokens=13, long_query="error")

    with pytest.raises(WindowOverflowError, match="the query takes 1"):
        reranker.rank("oil " * 12, ["wax"])


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ({"text": "oil"}, "`examples` must be a list of examples, got {"),
        ("brake squeal", "`examples` must be a list of examples, got 'brake squeal'"),
        (["brake squeal"], "an example must be an `Example` or a mapping, got 'brake squeal'"),
        ([{"labels": ["oil"]}], r"an example needs the key `text`, got the keys \['labels'\]"),
        ([{"text": "oil", "labels": [7]}], r"`examples.true_labels\[0\]` must be a string, got 7"),
        ([{"text": "\ud800", "labels": []}], "an example's `text` must be valid Unicode"),
        ([{"text": "oil", "true_lables": ["a"]}], "an example has no key 'true_lables'; did you mean `true_labels`?"),
        ([{"text": "oil", "x": 1}], "an example has no key 'x'; known are `all_labels`, "),
        ([{"text": " ", "labels": ["a"]}], "an example's `text` must not be blank, got ' '"),
        ([{"text": "oil"}], "an example needs a label in `true_labels` or `false_labels`, got 'oil' without one"),
        ([Example("oil", [" "])], "an example needs a label in `true_labels` or `false_labels`, got 'oil' without one"),
        (5, "`examples` must be a list of examples, got 5"),
    ],
)
def test_examples_of_another_form_are_refused(bundled, examples, message):
    with pytest.raises(InputError, match=message):
        bundled.rank(QUERY, ["oil"], examples=examples)


@pytest.mark.parametrize("lists", [[["oil"]], [["oil"]] * 3, "oi", None])
def test_many_queries_need_one_list_each(bundled, lists):
    with pytest.raises(InputError, match="`passages_per_query` must hold one list for each of the 2 queries"):
        bundled.rank_many([QUERY, "brake squeal"], lists)


def test_a_string_in_place_of_one_of_many_lists_is_refused(bundled):
    with pytest.raises(InputError, match="`passages` must be a list of strings, got 'oil'"):
        bundled.rank_many([QUERY], ["oil"])


def test_a_set_of_passages_is_refused_because_it_has_no_order(bundled):
    with pytest.raises(InputError, match=r"`passages` must be a list of strings, got \{'oil'\}"):
        bundled.rank(QUERY, {"oil"})


def test_any_integer_type_counts_as_top_k(bundled):
    assert len(bundled.rank(QUERY, ["oil", "wax"], top_k=np.int64(1))) == 1
