"""`ContextPruner`: what is kept, what is said of it, and what happens when the model fails."""

import asyncio
import pickle
import re

import pytest

from gliclass_rerank import BackendError, CheckpointError, ConfigError, ContextPruner, InputError, PrunedPassage

QUERY = "chain slip"
# Far from 0, so that scores are close to 1 and 0.
LOGITS = {"oil wax .": 9.0, "rust .": -9.0, "pump tire .": 9.0, "hill .": -9.0}
PASSAGE = "hill . oil wax .\npump tire . rust . rust . pump tire ."


@pytest.fixture
def pruner(scripted):
    return lambda **settings: ContextPruner(reranker=scripted(LOGITS)[0], **settings)


def test_sentences_above_the_threshold_stay_with_the_white_space_between_them(pruner):
    (pruned,) = pruner(min_sentence_score=0.5).run(QUERY, [PASSAGE])

    assert pruned.text == "oil wax .\npump tire . pump tire ."
    assert [PASSAGE[start:end] for start, end in pruned.kept] == ["oil wax .\npump tire .", "pump tire ."]
    assert pruned.chars_cut == len(PASSAGE) - sum(end - start for start, end in pruned.kept)
    assert pruned.score > 0.99
    assert pruned.notes() == {"pruned_chars": pruned.chars_cut, "kept_spans": [list(each) for each in pruned.kept]}


def test_the_gap_is_the_callers(pruner):
    (pruned,) = pruner(min_sentence_score=0.5, gap=" [...] ").run(QUERY, [PASSAGE])

    assert pruned.text == "oil wax .\npump tire . [...] pump tire ."


def test_passages_keep_their_order_and_those_without_a_sentence_left_are_dropped(pruner):
    passages = ["rust . hill .", "pump tire .", "", "oil wax . rust .", "  \n"]

    assert [(each.index, each.text) for each in pruner(min_sentence_score=0.5).run(QUERY, passages)] == [
        (1, "pump tire ."),
        (3, "oil wax ."),
    ]
    kept = pruner(min_sentence_score=0.5, keep_empty=True).run(QUERY, passages)
    assert [(each.index, each.text) for each in kept] == [(0, "rust ."), (1, "pump tire ."), (3, "oil wax .")]


def test_threshold_0_keeps_all_and_a_call_has_its_own(pruner):
    all_kept = pruner(min_sentence_score=0.0)

    assert [each.text for each in all_kept.run(QUERY, [PASSAGE])] == [PASSAGE]
    assert all_kept.run(QUERY, ["rust ."], min_sentence_score=1) == ()
    assert all_kept.run(QUERY, []) == ()


def test_the_callers_list_is_not_changed_and_what_is_no_text_counts_as_blank(pruner):
    passages = [None, "oil wax .", float("nan")]

    assert [each.index for each in pruner().run(QUERY, passages)] == [1]
    assert passages[0] is None
    assert len(passages) == 3


def test_arun_is_run(pruner):
    built = pruner(min_sentence_score=0.5)

    assert asyncio.run(built.arun(QUERY, [PASSAGE])) == built.run(QUERY, [PASSAGE])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_sentence_score": 2}, "`min_sentence_score` must be between 0 and 1, got 2"),
        ({"gap": 5}, "`gap` must be a string, got 5"),
        ({"on_error": "keep_order"}, "`on_error` must be one of `keep_all`, `raise`, got 'keep_order'"),
        ({"model": "minilm-l6-v1", "reranker": {}}, "pass either `reranker` or `model`, not both"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_sentence(settings, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        ContextPruner(**settings)


@pytest.mark.parametrize(("query", "passages"), [("", ["a"]), (None, ["a"]), ("a", "text"), ("a", None)])
def test_a_wrong_argument_is_refused_whatever_on_error_says(pruner, query, passages):
    with pytest.raises(InputError):
        pruner(on_error="keep_all").run(query, passages)


def test_a_model_that_cannot_be_loaded_keeps_all_with_the_reason(tmp_path):
    missing = str(tmp_path / "nothing")

    with pytest.raises(CheckpointError):
        ContextPruner(missing).run(QUERY, ["oil ."])
    (whole,) = ContextPruner(missing, on_error="keep_all").run(QUERY, ["oil . rust .", ""])
    assert whole == PrunedPassage(0, "oil . rust .", ((0, 12),), 0, None, whole.error)
    assert whole.error.startswith("CheckpointError: ")
    assert whole.notes() == {"prune_error": whole.error}


def test_a_pass_that_fails_raises_or_keeps_all(scripted):
    reranker, network = scripted(LOGITS)

    def fail(*_):
        raise BackendError("no memory")

    network.window_logits = network.block_logits = fail
    with pytest.raises(BackendError, match="no memory"):
        ContextPruner(reranker=reranker).run(QUERY, [PASSAGE])
    assert [each.text for each in ContextPruner(reranker=reranker, on_error="keep_all").run(QUERY, [PASSAGE])] == [
        PASSAGE
    ]


def test_a_pickle_holds_the_settings(tiny_folders):
    pruner = ContextPruner(tiny_folders["bert"], device="cpu", min_sentence_score=0.3)

    assert pickle.loads(pickle.dumps(pruner)).run(QUERY, ["oil. wax."]) == pruner.run(QUERY, ["oil. wax."])
