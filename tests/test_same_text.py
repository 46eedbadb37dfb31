import pytest

from gliclass_rerank.examples.text_identity import text_digest, text_identity


@pytest.mark.parametrize(
    "other", ["the caf\u00e9 office", " The  CAF\u00c9\noffice", "the cafe\u0301 office", "the caf\u00e9 o\ufb03ce"]
)
def test_case_white_space_and_ways_of_writing_a_letter_make_no_other_text(other):
    assert text_identity(other) == text_identity("the caf\u00e9 office")
    assert text_digest(other) == text_digest("the caf\u00e9 office")


@pytest.mark.parametrize("other", ["the cafe office", "the caf\u00e9 office.", "thecaf\u00e9 office", ""])
def test_anything_else_does(other):
    assert text_identity(other) != text_identity("the caf\u00e9 office")
    assert text_digest(other) != text_digest("the caf\u00e9 office")
