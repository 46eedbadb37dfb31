"""Texts that a tokenizer does not cover are reported: unknown words, and scripts that it was not made for."""

import logging

import pytest

from gliclass_rerank.checkpoint.location import bundled_folder
from gliclass_rerank.prompt.coverage import Coverage
from gliclass_rerank.prompt.tokenizer_files import load_tokenizer
from gliclass_rerank.types import UnknownTokens

CHINESE, RUSSIAN = "为什么我的链条会滑", "почему цепь соскакивает"
LONG_WORD = "x" * 101


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(bundled_folder())


@pytest.fixture
def coverage(tokenizer):
    return Coverage(tokenizer)


@pytest.mark.parametrize("text", ["", " ", "why does it slip?", "a\tb\n{}[]~` \\ ^", "x" * 100])
def test_plain_english_needs_no_report(coverage, text):
    assert coverage.is_plain(text)
    assert coverage.report(text, [text]) == ((), ())


@pytest.mark.parametrize(
    "text", ["schön größer élève señor", "it\u2019s \u201cquoted\u201d \u2013 10 \u20ac", "naïve café"]
)
def test_other_characters_of_the_script_are_read_without_a_warning(coverage, text):
    assert not coverage.is_plain(text)
    assert coverage.report(text, [text]) == ((), ())


@pytest.mark.parametrize(("text", "script"), [(CHINESE, "CJK"), (RUSSIAN, "Cyrillic"), ("γιατί γλιστράει", "Greek")])
def test_a_script_that_the_vocabulary_was_not_made_for_is_named(coverage, text, script):
    warnings = coverage.report(text, ["oil", text, text]).warnings

    assert warnings == (
        f"the query is mostly in a script that the model was not made for: {script}",
        f"2 of 3 passages are mostly in a script that the model was not made for: {script}",
    )


def test_a_foreign_name_in_an_english_text_is_no_warning(coverage):
    assert coverage.report("oil", [f"The Russian for it is {RUSSIAN[:6]}, as everybody knows."]).warnings == ()


def test_words_that_became_one_unknown_token_are_counted(coverage):
    report = coverage.report(f"read {LONG_WORD}", ["oil", f"oil {LONG_WORD} {LONG_WORD} the chain \U0001f9ff"])

    assert report.unknown == (UnknownTokens(None, 2, 1), UnknownTokens(1, 6, 3))
    assert report.warnings == ()


def test_mostly_unknown_tokens_are_a_warning(coverage):
    report = coverage.report(LONG_WORD, [f"{LONG_WORD} {LONG_WORD} oil"])

    assert report.warnings == (
        "most tokens of the query are unknown to the model",
        "most tokens of 1 of 1 passages are unknown to the model",
    )


def test_each_kind_of_warning_is_logged_once(coverage, caplog):
    with caplog.at_level(logging.WARNING, logger="gliclass_rerank"):
        for count in (1, 2, 3):
            coverage.report("oil", [RUSSIAN] * count)
        coverage.report(LONG_WORD, [])

    assert [record.message for record in caplog.records] == [
        "1 of 1 passages are mostly in a script that the model was not made for: Cyrillic; this is logged once",
        "most tokens of the query are unknown to the model; this is logged once",
    ]


def test_a_ranking_and_a_stage_carry_the_report(scripted):
    from gliclass_rerank import RerankStage

    reranker, _ = scripted({"oil": 1.0})
    ranking, plain = reranker.rank_many(["oil", "oil"], [["oil", RUSSIAN, RUSSIAN], ["oil"]])

    assert [each.index for each in ranking.unknown] == [1, 2]
    assert ranking.warnings == RerankStage(reranker=reranker).run("oil", ["oil", RUSSIAN, RUSSIAN]).warnings != ()
    assert (plain.unknown, plain.warnings) == ((), ())
