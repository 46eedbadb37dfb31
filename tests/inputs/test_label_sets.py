import pytest

from gliclass_rerank import InputError
from gliclass_rerank.prompt.label_sets import described, flatten_labels, label_sets

TREE = {"care": {"wet": ["oil", "wax"], "dry": "rust"}}


def test_a_hierarchy_may_have_another_separator():
    assert flatten_labels(TREE, " > ") == ("care > wet > oil", "care > wet > wax", "care > dry > rust")
    assert label_sets([TREE, ["hub"]], 2, "/") == [("care/wet/oil", "care/wet/wax", "care/dry/rust"), ("hub",)]


def test_a_description_follows_its_label():
    assert described([("oil", "wax"), ("wax",)], {"wax": "dry lubricant"}) == [
        ("oil", "wax: dry lubricant"),
        ("wax: dry lubricant",),
    ]
    assert described([("oil",)], None) == [("oil",)]


@pytest.mark.parametrize(
    ("descriptions", "message"),
    [
        (["wax"], r"`descriptions` must map labels to descriptions, got \['wax'\]"),
        ({"wax": 7}, "the description of 'wax' must be a string, got 7"),
        ({7: "wax"}, "a key of `descriptions` must be a string, got 7"),
        ({"waxx": "dry"}, "`descriptions` must describe given labels, got 'waxx'; did you mean 'wax'?"),
    ],
)
def test_a_wrong_description_is_refused(descriptions, message):
    with pytest.raises(InputError, match=message):
        described([("oil", "wax")], descriptions)
