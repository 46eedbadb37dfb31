"""Two checkpoints as one: what the second looks at, how their logits are joined, and folders that cannot be loaded."""

import json
import shutil
import statistics
import subprocess
import sys
from threading import Barrier

import numpy as np
import pytest
from tiny_checkpoints import WORDS, words, write_tiny_checkpoint

from gliclass_rerank import CheckpointError, ConfigError, Reranker, ZeroShotClassifier
from gliclass_rerank.cascade import CascadeConfig, save_cascade
from gliclass_rerank.checkpoint.loading import load_checkpoint
from gliclass_rerank.checkpoint.location import DEFAULT_MODEL, bundled_folder, read_config
from gliclass_rerank.cli.app import main
from gliclass_rerank.pipeline import Pipeline

QUERY = "chain slip"
PASSAGES = [words(3 + index % 4, first=2 * index) for index in range(12)]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    return {
        "first": write_tiny_checkpoint(folder / "first", "modernbert", attention_plan="shared_query"),
        "second": write_tiny_checkpoint(folder / "second", "bert", attention_plan="shared_query"),
    }


@pytest.fixture
def cascade(parts, tmp_path):
    def build(**settings):
        folder = tmp_path / f"cascade{len(list(tmp_path.iterdir()))}"
        save_cascade(CascadeConfig(first="first", second="second", **settings), folder, parts)
        return folder

    return build


def logits(model, query=QUERY, passages=PASSAGES, **options):
    return {hit.index: hit.logit for hit in Reranker(model, device="cpu").rank(query, passages, **options)}


def test_passages_on_top_get_the_mixture_and_the_others_keep_their_order_below(parts, cascade):
    first, second = logits(parts["first"]), logits(parts["second"])
    mixed = logits(cascade(rerank_depth=5, first_weight=0.25))

    order = sorted(first, key=first.__getitem__, reverse=True)
    for index in order[:5]:
        assert mixed[index] == pytest.approx(0.25 * first[index] + 0.75 * second[index], abs=1e-5)
    below = [mixed[index] for index in order[5:]]
    assert below == sorted(below, reverse=True)
    assert below[0] <= min(mixed[index] for index in order[:5])
    # All are moved by the same amount, so their distances are the first checkpoint's.
    assert below[0] - below[-1] == pytest.approx(first[order[5]] - first[order[-1]], abs=1e-5)


def test_passages_of_which_the_second_one_is_sure_get_a_bonus(parts, cascade):
    first, second = logits(parts["first"]), logits(parts["second"])
    limit = statistics.median(second.values())
    mixed = logits(cascade(first_weight=0.25, sure_bonus=(2.0, -2.0 * limit)))

    for index, logit in mixed.items():
        bonus = 2 * max(0.0, second[index] - limit)
        assert logit == pytest.approx(0.25 * first[index] + 0.75 * second[index] + bonus, abs=1e-5)
    alone = logits(cascade(first_weight=0.25, sure_bonus=(2.0, -2.0 * limit)), passages=PASSAGES[:1])
    assert alone[0] == pytest.approx(mixed[0], abs=1e-5)  # a function of the passage, not of its list


def test_beside_examples_nobody_gets_a_bonus():
    config = CascadeConfig(first="first", second="second", first_weight=0.5, sure_bonus=(2.0, -10.0))

    assert config.mixed([1.0], [9.0]) == [13.0]
    assert config.mixed([1.0], [9.0], has_examples=True) == [5.0]


def test_logits_below_the_refined_ones_are_left_as_they_are(parts, cascade):
    first = logits(parts["first"])
    # All weight on the first: nothing that was refined falls below the others.
    assert logits(cascade(rerank_depth=5, first_weight=1.0)) == pytest.approx(first, abs=1e-5)


def test_the_order_of_the_passages_and_their_companions_in_a_batch_change_nothing(cascade):
    reranker = Reranker(cascade(rerank_depth=4), device="cpu")
    forwards = {PASSAGES[hit.index]: hit.logit for hit in reranker.rank(QUERY, PASSAGES)}
    backwards = reranker.rank(QUERY, PASSAGES[::-1])
    _, beside = reranker.rank_many(["brake squeal", QUERY], [PASSAGES[3:], PASSAGES])

    assert {PASSAGES[::-1][hit.index]: hit.logit for hit in backwards} == pytest.approx(forwards, abs=1e-5)
    assert {PASSAGES[hit.index]: hit.logit for hit in beside} == pytest.approx(forwards, abs=1e-5)


def test_a_long_query_is_left_to_the_first_checkpoint(parts, cascade):
    folder, long = cascade(max_query_tokens=4), words(5)

    assert logits(folder, long) == pytest.approx(logits(parts["first"], long), abs=1e-5)
    assert logits(folder) != pytest.approx(logits(parts["first"]), abs=1e-3)


def test_a_long_query_with_examples_is_not_left_to_a_first_checkpoint_that_does_not_read_them(cascade):
    shown = [{"text": "brake squeal", "labels": ["clean pad"], "all_labels": ["clean pad"]}]
    short_only, any_length = (cascade(first_reads_examples=False, max_query_tokens=limit) for limit in (4, None))

    with_examples = logits(short_only, words(5), examples=shown)
    assert with_examples == pytest.approx(logits(any_length, words(5), examples=shown), abs=1e-5)
    assert with_examples != pytest.approx(logits(short_only, words(5)), abs=1e-3)


def test_the_first_checkpoint_reads_the_beginnings_of_passages_and_the_second_all(parts, cascade):
    long = [words(8, first=index) for index in range(6)]
    heads = [words(3, first=index) for index in range(6)]
    quick = Reranker(cascade(first_weight=0.5, rerank_depth=4, first_passage_tokens=5), device="cpu")
    ranking = quick.rank(QUERY, long)

    first, second = logits(parts["first"], passages=heads), logits(parts["second"], passages=long)
    order = sorted(first, key=first.__getitem__, reverse=True)
    found = {hit.index: hit.logit for hit in ranking}
    for index in order[:4]:
        assert found[index] == pytest.approx((first[index] + second[index]) / 2, abs=1e-5)
    assert {cut.index: cut.num_lost for cut in ranking.truncated} == dict.fromkeys(sorted(order[4:]), 5)


def test_beginnings_need_the_plan_that_reads_passages_apart(cascade):
    with pytest.raises(ConfigError, match="passages are cut at 5 tokens under the plan 'shared_query', got 'joint'"):
        Reranker(cascade(first_passage_tokens=5), device="cpu", plan="joint")


def test_both_checkpoints_are_shown_the_examples(parts, cascade):
    shown = [{"text": "brake squeal", "labels": ["clean pad"], "all_labels": ["clean pad", "wax"]}]
    first, second = (logits(parts[name], examples=shown) for name in ("first", "second"))

    assert first != pytest.approx(logits(parts["first"]), abs=1e-3)
    assert logits(cascade(), examples=shown) == pytest.approx(
        {index: (first[index] + second[index]) / 2 for index in first}, abs=1e-5
    )


def test_the_first_checkpoint_can_have_another_share_where_examples_are_shown(parts, cascade):
    shown = [{"text": "brake squeal", "labels": ["clean pad"], "all_labels": ["clean pad", "wax"]}]
    folder = cascade(first_weight=0.75, first_weight_with_examples=0.25)

    for examples, share in ((None, 0.75), (shown, 0.25)):
        first, second = (logits(parts[name], examples=examples) for name in ("first", "second"))
        mixed = {index: share * first[index] + (1 - share) * second[index] for index in first}
        assert logits(folder, examples=examples) == pytest.approx(mixed, abs=1e-5)


def test_examples_can_be_kept_from_the_first_checkpoint(parts, cascade):
    shown = [{"text": "brake squeal", "labels": [words(60)], "all_labels": [words(60)]}]
    folder = cascade(first_reads_examples=False)
    first, second = logits(parts["first"]), logits(parts["second"], examples=shown)

    assert logits(folder, examples=shown) == pytest.approx(
        {index: (first[index] + second[index]) / 2 for index in first}, abs=1e-5
    )
    # What was cut of them is what the second one lost.
    cut, alone = (
        Reranker(name, device="cpu", max_window_tokens=48).rank(QUERY, PASSAGES, examples=shown).truncated_examples
        for name in (folder, parts["second"])
    )
    assert cut == alone != ()


def test_a_passage_cache_serves_the_first_checkpoint(parts, tmp_path):
    write_tiny_checkpoint(tmp_path / "first", "bert", attention_plan="shared_query", query_attention_start=2)
    save_cascade(
        CascadeConfig(first="first", second="second"), tmp_path / "cascade", {**parts, "first": tmp_path / "first"}
    )
    plain = Reranker(tmp_path / "cascade", device="cpu")
    assert plain.precompute(PASSAGES, tmp_path / "cache").layer == 2

    cached = Reranker(tmp_path / "cascade", device="cpu", passage_cache=tmp_path / "cache")
    assert {hit.index: hit.logit for hit in cached.rank(QUERY, PASSAGES)} == pytest.approx(
        {hit.index: hit.logit for hit in plain.rank(QUERY, PASSAGES)}, abs=3e-3
    )


def test_no_passages_and_equal_passages(cascade):
    reranker = Reranker(cascade(rerank_depth=1), device="cpu")

    assert reranker.rank(QUERY, []).hits == ()
    assert len({hit.logit for hit in reranker.rank(QUERY, ["oil", "oil"])}) == 1


def test_cuts_of_both_checkpoints_are_reported(cascade):
    reranker = Reranker(cascade(), device="cpu", max_window_tokens=24, long_passages="cut")
    ranking = reranker.rank(QUERY, ["oil", words(60)])

    assert [cut.index for cut in ranking.truncated] == [1]
    assert ranking.truncated[0].num_lost > 36


def test_scores_follow_the_cascades_own_calibration(parts, tmp_path):
    config = CascadeConfig(first="first", second="second", score_calibration=(2.0, -1.0))
    save_cascade(config, tmp_path / "cascade", parts)
    plain = CascadeConfig(first="first", second="second")
    save_cascade(plain, tmp_path / "plain", parts)

    hits = Reranker(tmp_path / "cascade", device="cpu").rank(QUERY, PASSAGES)
    for hit, raw in zip(hits, Reranker(tmp_path / "plain", device="cpu").rank(QUERY, PASSAGES), strict=True):
        assert hit.logit == raw.logit
        odds = hit.score / (1 - hit.score)
        assert odds == pytest.approx((raw.score / (1 - raw.score)) ** 2 / 2.718281828, rel=1e-6)


def test_passages_without_a_second_look_get_the_logit_that_it_is_expected_to_give(parts, cascade):
    plain, mapped = cascade(rerank_depth=5), cascade(rerank_depth=5, unseen_calibration=(2.0, -3.0))
    first, before, after = logits(parts["first"]), logits(plain), logits(mapped)

    order = sorted(first, key=first.__getitem__, reverse=True)
    assert sorted(after, key=after.__getitem__) == sorted(before, key=before.__getitem__)
    assert {index: after[index] for index in order[:5]} == {index: before[index] for index in order[:5]}
    shift = 2 * first[order[5]] - 3 - after[order[5]]
    assert shift >= 0
    for index in order[5:]:
        assert after[index] == pytest.approx(2 * first[index] - 3 - shift, abs=1e-5)


def test_a_bundled_model_is_a_part_by_its_name(parts, tmp_path):
    save_cascade(CascadeConfig(first=DEFAULT_MODEL, second="second"), tmp_path / "cascade", {"second": parts["second"]})

    reranker = Reranker(tmp_path / "cascade", device="cpu")
    assert reranker.name == str(tmp_path / "cascade")
    assert len(reranker.rank(QUERY, PASSAGES)) == len(PASSAGES)


def test_both_checkpoints_are_loaded_at_the_same_time(cascade, monkeypatch):
    meet = Barrier(2, timeout=30)

    def load(*args, **settings):
        meet.wait()
        return Pipeline(*args, **settings)

    monkeypatch.setattr("gliclass_rerank.cascade.Pipeline", load)

    assert len(Reranker(cascade(), device="cpu").rank(QUERY, PASSAGES)) == len(PASSAGES)


@pytest.mark.slow
def test_a_cold_process_loads_backbones_of_two_kinds(tmp_path):
    # transformers has to be imported for both, which two threads could not do at once.
    parts = {
        name: write_tiny_checkpoint(tmp_path / name, backbone, attention_plan="shared_query")
        for name, backbone in (("first", "deberta-v2"), ("second", "modernbert"))
    }
    save_cascade(CascadeConfig(first="first", second="second"), tmp_path / "both", parts)
    code = f"from gliclass_rerank import Reranker; Reranker({str(tmp_path / 'both')!r}, device='cpu', backend='torch')"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_a_bundled_model_loads_by_its_name():
    assert load_checkpoint(DEFAULT_MODEL).name == DEFAULT_MODEL


def test_a_folder_wins_over_a_bundled_name(parts, tmp_path, monkeypatch):
    shutil.copytree(parts["second"], tmp_path / DEFAULT_MODEL)
    monkeypatch.chdir(tmp_path)

    assert load_checkpoint(DEFAULT_MODEL).config.shape.width == 24


def test_a_cascade_only_ranks(cascade):
    folder = cascade()

    with pytest.raises(CheckpointError, match="is not a GLiClass checkpoint: its `model_type` is 'GLiClassCascade'"):
        ZeroShotClassifier(folder)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"first": "../elsewhere"}, "`first` of a cascade must be the name of a folder in it, got '../elsewhere'"),
        ({"second": 3}, "`second` of a cascade must be the name of a folder in it, got 3"),
        ({"rerank_depth": 0}, "`rerank_depth` must be a whole number of at least 1, got 0"),
        ({"rerank_depth": True}, "`rerank_depth` must be a whole number of at least 1, got True"),
        ({"first_weight": 1.5}, "`first_weight` must be between 0 and 1, got 1.5"),
        ({"first_weight_with_examples": -0.5}, "`first_weight_with_examples` must be between 0 and 1, got -0.5"),
        ({"sure_bonus": (-1, 0)}, "`sure_bonus` must be a slope above 0 and an intercept, got [-1, 0]"),
        ({"first_weight": None}, "`first_weight` must be between 0 and 1, got None"),
        ({"first_weight": "half"}, "`first_weight` must be between 0 and 1, got 'half'"),
        ({"first_passage_tokens": 0}, "`first_passage_tokens` must be a whole number of at least 1, got 0"),
        ({"first_reads_examples": 0}, "`first_reads_examples` must be true or false, got 0"),
        ({"max_query_tokens": -1}, "`max_query_tokens` must be a whole number of at least 1, got -1"),
        ({"score_calibration": [1.0]}, "`score_calibration` must be a slope above 0 and an intercept, got [1.0]"),
        ({"unseen_calibration": [-1, 0]}, "`unseen_calibration` must be a slope above 0 and an intercept, got [-1, 0]"),
        ({"third": "x"}, "a cascade's config must have `first` and `second` and may have"),
    ],
)
def test_settings_that_make_no_sense_are_refused(cascade, change, problem):
    folder = cascade()
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))

    with pytest.raises(ConfigError) as info:
        Reranker(folder)
    assert problem in str(info.value)


def test_a_part_that_is_missing_is_named(cascade):
    folder = cascade()
    shutil.rmtree(folder / "second")

    with pytest.raises(CheckpointError, match="holds no folder `second`, and no bundled model has that name"):
        Reranker(folder)


def test_nothing_is_overwritten_and_nothing_half_written(parts, tmp_path):
    config = CascadeConfig(first="first", second="second")
    with pytest.raises(CheckpointError, match="the part `second` is neither given nor a bundled model"):
        save_cascade(config, tmp_path / "cascade", {"first": parts["first"]})
    assert list(tmp_path.iterdir()) == []

    save_cascade(config, tmp_path / "cascade", parts)
    with pytest.raises(CheckpointError, match="exists already"):
        save_cascade(config, tmp_path / "cascade", parts)


def test_the_command_joins_two_checkpoints(parts, tmp_path, capsys):
    arguments = ["--first", parts["first"], "--second", DEFAULT_MODEL, "--refined", 3, "--first-passage-tokens", 40]
    arguments += ["--no-first-reads-examples", "--max-query-tokens", 9, "--first-share-with-examples", 0.25]
    arguments += ["--sure-bonus", 2, -10]
    assert main(["cascade", *map(str, [tmp_path / "cascade", *arguments])]) == 0

    assert capsys.readouterr().out == f"written     {tmp_path / 'cascade'}\n"
    assert CascadeConfig.from_dict(read_config(tmp_path / "cascade")) == CascadeConfig(
        first="first",
        second=DEFAULT_MODEL,
        rerank_depth=3,
        first_weight_with_examples=0.25,
        sure_bonus=(2.0, -10.0),
        first_passage_tokens=40,
        first_reads_examples=False,
        max_query_tokens=9,
    )
    assert main(["cascade", str(tmp_path / "other"), "--first", "./nowhere", "--second", DEFAULT_MODEL]) == 1
    assert capsys.readouterr().err.startswith("error: there is no folder `./nowhere`")
    assert not (tmp_path / "other").exists()


def test_the_command_names_a_bundled_model_also_where_its_folder_is_given(parts, tmp_path):
    target = tmp_path / "joined"
    assert main(["cascade", str(target), "--first", str(bundled_folder()), "--second", str(parts["second"])]) == 0

    assert read_config(target)["first"] == DEFAULT_MODEL
    assert not (target / "first").exists()


def test_numpys_numbers_are_settings_too(parts, tmp_path):
    given = CascadeConfig(
        first="first",
        second="second",
        rerank_depth=np.int64(3),
        first_weight=np.float32(0.5),
        first_passage_tokens=np.int32(40),
        max_query_tokens=np.int64(9),
    )
    save_cascade(given, tmp_path / "cascade", parts)

    assert CascadeConfig.from_dict(read_config(tmp_path / "cascade")) == given


def test_the_command_takes_a_folder_before_a_bundled_model(parts, tmp_path, monkeypatch):
    shutil.copytree(parts["second"], tmp_path / DEFAULT_MODEL)
    monkeypatch.chdir(tmp_path)

    assert main(["cascade", "joined", "--first", str(parts["first"]), "--second", DEFAULT_MODEL]) == 0
    assert read_config(tmp_path / "joined")["second"] == "second"
    assert (tmp_path / "joined" / "second" / "model.safetensors").is_file()


def test_the_tiny_vocabulary_covers_the_passages():
    assert {word for passage in PASSAGES for word in passage.split()} <= set(WORDS)
