"""`Ranking.answerable`, and `min_answerable` of a stage."""

import dataclasses
import math

import pytest

from gliclass_rerank import ConfigError, Reranker, RerankStage
from gliclass_rerank.checkpoint.loading import load_checkpoint, save_checkpoint

QUERY = "chain slip"
PASSAGES = ["oil", "wax", "rust"]


@pytest.fixture(scope="module")
def calibrated(tiny_folders, tmp_path_factory):
    """A tiny checkpoint that says how likely an answer is."""
    folder = tmp_path_factory.mktemp("calibrated") / "bert"
    checkpoint = load_checkpoint(tiny_folders["bert"])
    config = dataclasses.replace(checkpoint.config, answerable_calibration=(2.0, -0.5))
    save_checkpoint(dataclasses.replace(checkpoint, config=config), folder)
    return Reranker(folder, device="cpu")


def test_the_best_of_all_passages_decides_however_few_come_back(calibrated):
    ranking = calibrated.rank(QUERY, PASSAGES, top_k=1)

    assert ranking.answerable == pytest.approx(1 / (1 + math.exp(0.5 - 2 * ranking[0].logit)), rel=1e-12)


def test_nothing_answers_where_there_is_nothing(calibrated):
    assert calibrated.rank(QUERY, []).answerable == 0.0


def test_a_checkpoint_without_the_calibration_does_not_say(scripted):
    reranker, _ = scripted({"oil": 1.0})

    assert reranker.rank(QUERY, PASSAGES).answerable is None


def test_a_stage_returns_nothing_below_the_minimum_and_everything_from_it_on(calibrated):
    answerable = calibrated.rank(QUERY, PASSAGES).answerable
    lenient = RerankStage(reranker=calibrated, min_answerable=answerable).run(QUERY, PASSAGES)
    strict = RerankStage(reranker=calibrated, min_answerable=math.nextafter(answerable, 1)).run(QUERY, PASSAGES)

    assert (len(lenient), lenient.answerable) == (3, answerable)
    assert (len(strict), strict.answerable, strict.error) == (0, answerable, None)


def test_blank_passages_answer_nothing(calibrated):
    assert len(RerankStage(reranker=calibrated, min_answerable=0.1).run(QUERY, [" "])) == 0


def test_a_minimum_needs_a_checkpoint_that_says_even_where_failures_keep_the_order(tiny_folders):
    stage = RerankStage(str(tiny_folders["bert"]), device="cpu", min_answerable=0.5, on_error="keep_order")

    with pytest.raises(ConfigError, match="`min_answerable` needs a model calibrated for it, got "):
        stage.run(QUERY, PASSAGES)
