"""Rankings with states that were computed before the query came."""

import gzip
import json
import pickle
import random
import threading

import pytest
import torch
from tiny_checkpoints import change_weights, words, write_tiny_checkpoint

from gliclass_rerank import (
    ConfigError,
    DataError,
    InputError,
    Reranker,
    RerankStage,
    cli,
)

QUERY = "chain slip on the hill"
# What half precision and int8 of states move logits by; they span 0.3 to 2 in these random networks, 4 in the bundled.
HALF = 3e-3
INT8 = 0.03
# What batching in other groups moves them by.
SAME = 1e-5


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """A checkpoint of each backbone whose passages see the query in the last of three layers."""
    folder = tmp_path_factory.mktemp("late")
    changes = {"attention_plan": "shared_query", "query_attention_start": 2, "squeeze_layers": False}
    return {
        name: write_tiny_checkpoint(folder / name, name, **changes) for name in ("bert", "modernbert", "deberta-v2")
    }


@pytest.fixture(scope="session")
def caches(folders, passages, tmp_path_factory):
    """Every second passage of `passages`, in float16."""
    folder = tmp_path_factory.mktemp("caches")
    for name, checkpoint in folders.items():
        Reranker(checkpoint, device="cpu").precompute(passages[::2], folder / name)
    return {name: folder / name for name in folders}


@pytest.fixture(scope="session")
def half_known(folders, caches):
    return {name: Reranker(folders[name], device="cpu", passage_cache=caches[name]) for name in folders}


def logits(reranker, passages, query=QUERY):
    return {passages[hit.index]: hit.logit for hit in reranker.rank(query, passages)}


def largest_difference(found, expected):
    assert found.keys() == expected.keys()
    return max(abs(found[text] - expected[text]) for text in expected)


def test_known_passages_score_almost_and_unknown_ones_exactly_as_without_a_cache(
    backbone, folders, half_known, passages
):
    expected = logits(Reranker(folders[backbone], device="cpu"), passages)

    found = logits(half_known[backbone], passages)

    known = {text: found[text] for text in passages[::2]}
    unknown = {text: found[text] for text in passages[1::2]}
    assert SAME < largest_difference(known, {text: expected[text] for text in known}) < HALF
    assert largest_difference(unknown, {text: expected[text] for text in unknown}) < SAME


def test_a_cache_in_int8_is_near_too(backbone, folders, passages, tmp_path):
    reranker = Reranker(folders[backbone], device="cpu")
    reranker.precompute(passages, tmp_path / "int8", dtype="int8")
    cached = Reranker(folders[backbone], device="cpu", passage_cache=tmp_path / "int8")

    assert HALF / 10 < largest_difference(logits(cached, passages), logits(reranker, passages)) < INT8


def test_order_and_companions_change_nothing(backbone, half_known, passages):
    reranker = half_known[backbone]
    shuffled = random.Random(3).sample(passages, len(passages))
    expected = logits(reranker, passages)

    assert largest_difference(logits(reranker, shuffled), expected) < SAME
    for text in passages[:4]:
        assert logits(reranker, [text])[text] == pytest.approx(expected[text], abs=SAME)


def test_the_bundled_model_ranks_the_same_with_a_cache(bundled, tmp_path):
    texts = [
        "Raise the saddle a little until the leg is almost straight.",
        "Oil on the rotor makes disc brakes squeal.",
        "Brakes that squeal need their pads cleaned or replaced.",
        "Lock it to a post.",
        "",
    ]
    query = "awful noise when I slow down"
    expected = bundled.rank(query, texts)
    for dtype, tolerance in (("float16", HALF), ("int8", 0.1)):
        meta = bundled.precompute(texts[:4], tmp_path / dtype, dtype=dtype)
        found = Reranker(device="cpu", passage_cache=tmp_path / dtype).rank(query, texts)

        assert (meta.layer, meta.num_passages) == (3, 4)
        assert [hit.index for hit in found] == [hit.index for hit in expected]
        assert [hit.logit for hit in found] == pytest.approx([hit.logit for hit in expected], abs=tolerance)


def test_a_passage_that_another_window_cuts_elsewhere_is_computed(folders, tmp_path):
    texts = [words(50), words(20)]
    wide, narrow = (Reranker(folders["bert"], device="cpu", max_window_tokens=size) for size in (64, 32))
    meta = wide.precompute(texts, tmp_path / "cache", dtype="int8")
    cached = Reranker(folders["bert"], device="cpu", max_window_tokens=32, passage_cache=tmp_path / "cache")

    found, expected = (logits(reranker, texts) for reranker in (cached, narrow))

    assert meta.num_tokens == 50 + 20 + 2 * 2  # a marker and a closing token each
    assert abs(found[texts[0]] - expected[texts[0]]) < SAME
    assert SAME < abs(found[texts[1]] - expected[texts[1]]) < INT8


def test_equal_passages_are_kept_once_and_found_at_every_index(folders, tmp_path):
    texts = ["oil the chain", "wax", "oil the chain", "Oil the Chain"]
    reranker = Reranker(folders["bert"], device="cpu")

    meta = reranker.precompute((text for text in texts), tmp_path / "cache")
    ranking = Reranker(folders["bert"], device="cpu", passage_cache=tmp_path / "cache").rank(QUERY, texts)

    assert meta.num_passages == 2  # the tokenizer knows no case
    logits = {hit.index: hit.logit for hit in ranking}
    assert sorted(logits) == [0, 1, 2, 3]
    assert logits[0] == logits[2] != pytest.approx(logits[1], abs=1e-3)
    assert logits[3] == pytest.approx(logits[0], abs=1e-5)  # another row: some processors round it differently


def test_several_threads_share_a_cache(half_known, passages):
    reranker = half_known["bert"]
    calls = [(f"{word} noise", passages[start::5]) for start, word in enumerate(("chain", "brake", "wheel"))]
    expected = [reranker.rank(*call) for call in calls]
    barrier, found = threading.Barrier(8), {}

    def work(number):
        barrier.wait()
        for step in range(12):
            call = (number + step) % len(calls)
            found[number, step] = reranker.rank(*calls[call]) == expected[call]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8 * 12
    assert all(found.values())


def test_settings_pickles_and_stages_carry_the_path(half_known, folders, caches, passages):
    reranker = half_known["bert"]
    expected = reranker.rank(QUERY, passages[:6])

    assert reranker.settings == {
        "model": str(folders["bert"]),
        "device": "cpu",
        "passage_cache": str(caches["bert"]),
    }
    assert pickle.loads(pickle.dumps(reranker)).rank(QUERY, passages[:6]) == expected
    stage = RerankStage(reranker=reranker.settings, on_error="raise")
    written = [text for text in passages[:6] if text]
    assert [hit.score for hit in stage.run(QUERY, written)] == [hit.score for hit in reranker.rank(QUERY, written)]


def test_the_cache_of_another_checkpoint_is_refused_and_one_with_the_same_lower_layers_is_not(
    folders, caches, tmp_path
):
    options = {"attention_plan": "shared_query", "query_attention_start": 2}
    for name, layer in (("lower", 1), ("upper", 2)):
        folder = write_tiny_checkpoint(tmp_path / name, "bert", **options)
        key = f"model.encoder_model.encoder.layer.{layer}.output.dense.weight"
        change_weights(folder, lambda weights, key=key: weights[key].mul_(1.01))
    early = write_tiny_checkpoint(tmp_path / "early", "bert", **options | {"query_attention_start": 1})

    for folder in (tmp_path / "lower", early):
        with pytest.raises(ConfigError, match=r"bert` was computed by another checkpoint: it does not fit .* below 2"):
            Reranker(folder, device="cpu", passage_cache=caches["bert"])
    assert Reranker(tmp_path / "upper", device="cpu", passage_cache=caches["bert"]).rank(QUERY, ["", "oil"])


def test_what_cannot_have_a_cache_is_refused_when_it_is_loaded(folders, caches):
    with pytest.raises(ConfigError, match="a passage cache needs the plan 'shared_query'"):
        Reranker(folders["bert"], device="cpu", passage_cache=caches["bert"], plan="joint")


def test_a_missing_cache_is_refused_when_it_is_loaded(folders, tmp_path):
    with pytest.raises(DataError, match=r"there is no passage cache at .*absent`"):
        Reranker(folders["bert"], device="cpu", passage_cache=tmp_path / "absent")


def test_what_cannot_be_precomputed_is_refused_and_leaves_nothing(folders, tiny_folders, tmp_path):
    out = tmp_path / "cache"
    late = Reranker(folders["bert"], device="cpu")
    for reranker, passages, error, message in (
        (late, "oil", InputError, "`passages` must hold strings, got 'oil'"),
        (late, ["oil", None], InputError, "`passages\\[1\\]` must be a string, got None"),
        (late, [], DataError, "must hold a passage, got none"),
        (Reranker(tiny_folders["bert"], device="cpu"), ["oil"], ConfigError, "in this checkpoint all do"),
        (Reranker(folders["bert"], device="cpu", plan="joint"), ["oil"], ConfigError, "under 'joint'"),
        (
            Reranker(folders["bert"], device="cpu", dtype="bfloat16"),
            ["oil"],
            ConfigError,
            "precomputed in the `dtype` 'float32', got 'bfloat16'",
        ),
    ):
        with pytest.raises(error, match=message):
            reranker.precompute(passages, out)
    assert list(tmp_path.iterdir()) == []


def test_a_reranker_in_bfloat16_reads_a_cache_made_in_float32(folders, caches, passages):
    plain, cached = (
        Reranker(folders["bert"], device="cpu", dtype=torch.bfloat16, passage_cache=cache)
        for cache in (None, caches["bert"])
    )

    assert largest_difference(logits(cached, passages), logits(plain, passages)) < 0.1


def test_the_command_line_writes_a_cache(folders, tmp_path, capsys):
    texts = ["oil chain", "tire wheel rim", "oil chain"]
    with gzip.open(tmp_path / "corpus.jsonl.gz", "wt") as handle:
        for number, text in enumerate(texts):
            title, _, rest = text.partition(" ")
            handle.write(json.dumps({"id": str(number), "title": title, "text": rest}) + "\n")
    command = ["precompute", "--passages", str(tmp_path / "corpus.jsonl.gz"), "--model", str(folders["bert"])]
    command += ["--out", str(tmp_path / "cache"), "--dtype", "int8", "--device", "cpu"]

    assert cli.main(command) == 0

    captured = capsys.readouterr()
    size = sum(path.stat().st_size for path in (tmp_path / "cache").iterdir())
    assert captured.out.splitlines() == [
        "passages       3  (2 distinct)",
        "tokens         9",
        f"bytes/passage  {size / 2:.0f}",
        f"written        {tmp_path / 'cache'}",
    ]
    assert captured.err == ""
    reranker = Reranker(folders["bert"], device="cpu", passage_cache=tmp_path / "cache")
    plain = logits(Reranker(folders["bert"], device="cpu"), texts[:2])
    assert SAME < largest_difference(logits(reranker, texts[:2]), plain) < INT8

    rank = ["rank", "--query", QUERY, "--passages", str(tmp_path / "corpus.jsonl.gz"), "--model", str(folders["bert"])]
    assert cli.main([*rank, "--passage-cache", str(tmp_path / "cache"), "--device", "cpu", "--json"]) == 0
    hits = json.loads(capsys.readouterr().out)["hits"]
    assert [hit["logit"] for hit in hits] == [hit.logit for hit in reranker.rank(QUERY, texts)]
    assert cli.main(command) == 1
    assert capsys.readouterr().err.endswith("exists already; a passage cache is never overwritten\n")
