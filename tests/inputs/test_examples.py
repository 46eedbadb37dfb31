"""The exact text of both example formats, as upstream writes them: every double space is meant."""

from gliclass_rerank.prompt.examples import few_shot_pieces, rac_pieces
from gliclass_rerank.prompt.pieces import Marker, Text
from gliclass_rerank.types import Example

FULL = Example("squeal", true_labels=("pad", "rim"), false_labels=("oil", "wax"))


def written(pieces):
    return "".join(piece.name if isinstance(piece, Marker) else piece.text for piece in pieces)


def test_rac_shows_true_then_false_labels():
    assert written(rac_pieces([FULL])) == (
        " <<EXAMPLE>> squeal <<TRUE_LABEL>> pad <<TRUE_LABEL>> rim <<FALSE_LABEL>> oil <<FALSE_LABEL>> wax <</EXAMPLE>>"
    )


def test_rac_without_false_labels_leaves_two_spaces():
    example = Example("squeal", true_labels=("pad",))

    assert written(rac_pieces([example])) == " <<EXAMPLE>> squeal <<TRUE_LABEL>> pad  <</EXAMPLE>>"


def test_rac_keeps_an_example_that_has_only_negatives():
    example = Example("squeal", false_labels=("oil",))

    assert written(rac_pieces([example])) == " <<EXAMPLE>> squeal  <<FALSE_LABEL>> oil <</EXAMPLE>>"


def test_rac_examples_keep_their_order():
    pieces = rac_pieces([Example("b", true_labels=("x",)), Example("a", true_labels=("y",))])

    assert written(pieces) == (
        " <<EXAMPLE>> b <<TRUE_LABEL>> x  <</EXAMPLE>> <<EXAMPLE>> a <<TRUE_LABEL>> y  <</EXAMPLE>>"
    )


def test_few_shot_shows_true_labels_and_closes_with_a_separator():
    pieces = few_shot_pieces([FULL, Example("slip", true_labels=("chain",))])

    assert written(pieces) == (
        "<<EXAMPLE>>squeal \nLabels:\n pad, rim<<EXAMPLE>>slip \nLabels:\n chain<<SEP>>"
    )  # fmt: skip


def test_few_shot_keeps_an_example_that_has_only_negatives():
    assert written(few_shot_pieces([Example("squeal", false_labels=("oil",))])) == (
        "<<EXAMPLE>>squeal \nLabels:\n <<SEP>>"
    )


def test_without_examples_neither_format_writes_anything():
    assert rac_pieces([]) == []
    assert few_shot_pieces([]) == []


def test_the_callers_text_is_told_apart_from_the_librarys_own():
    """Only the caller's text is searched for markers to break up."""
    texts = [piece for piece in rac_pieces([FULL]) + few_shot_pieces([FULL]) if isinstance(piece, Text)]

    assert {piece.text for piece in texts if not piece.is_ours} == {"squeal", "pad", "rim", "oil", "wax", "pad, rim"}
    assert {piece.text for piece in texts if piece.is_ours} == {" ", " \nLabels:\n "}
