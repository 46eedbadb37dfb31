"""Texts as real pipelines have them: documents, invalid Unicode, queries and passages that are too long."""

import copy
import json
from uuid import UUID

import pytest
from tiny_checkpoints import WORDS, words, write_tiny_checkpoint

from gliclass_rerank import Example, Reranker, RerankStage, Truncation, WindowOverflowError
from gliclass_rerank.cascade import CascadeConfig, save_cascade

QUERY = "chain slip"
LOGITS = {"oil": 2.0, "wax": 1.0, "rim": 0.0}


@pytest.fixture
def reranker(scripted):
    return scripted(LOGITS)[0]


# Documents


def test_documents_stand_beside_strings_and_come_back_with_their_hits(reranker):
    passages = [
        "wax",
        {"id": "a", "text": "oil", "metadata": {"page": 3}, "url": "left alone"},
        {"id": 7, "text": "rim"},
    ]
    before = copy.deepcopy(passages)

    ranking = reranker.rank(QUERY, passages)

    assert [(hit.id, hit.text, hit.metadata) for hit in ranking] == [
        ("a", "oil", {"page": 3}),
        (None, "wax", None),
        (7, "rim", None),
    ]
    assert passages == before
    assert ranking[0].metadata is passages[1]["metadata"]


def test_a_ranking_is_json(reranker):
    ranking = reranker.rank(QUERY, ["wax", {"id": UUID(int=7), "text": "oil", "metadata": {"page": 3}}])

    assert json.loads(json.dumps(ranking.to_list())) == [
        {
            "index": 1,
            "score": ranking[0].score,
            "logit": 2.0,
            "text": "oil",
            "id": "00000000-0000-0000-0000-000000000007",
            "metadata": {"page": 3},
        },
        {"index": 0, "score": ranking[1].score, "logit": 1.0, "text": "wax"},
    ]


def test_documents_with_equal_texts_keep_their_own_ids(reranker):
    ranking = reranker.rank(QUERY, [{"id": name, "text": "oil"} for name in "abc"])

    assert [hit.id for hit in ranking] == ["a", "b", "c"]


# Invalid Unicode


def test_invalid_unicode_is_replaced_and_reported_and_the_rest_goes_on(reranker):
    ranking = reranker.rank("chain \ud800 slip", ["wax", "oil \udfff", {"text": "rim\ud83d\ude00"}])

    assert [hit.text for hit in ranking] == ["oil \N{REPLACEMENT CHARACTER}", "wax", "rim\N{GRINNING FACE}"]
    assert (ranking.repaired, ranking.repaired_query) == ((1, 2), True)


def test_valid_texts_are_not_reported(reranker):
    ranking = reranker.rank(QUERY, ["wax \N{GRINNING FACE}", "\N{ZERO WIDTH NO-BREAK SPACE}oil"])

    assert (ranking.repaired, ranking.repaired_query) == ((), False)


def test_only_the_query_that_was_repaired_is_reported(reranker):
    rankings = reranker.rank_many([QUERY, "oil \ud800"], [["wax"], ["wax"]])

    assert [ranking.repaired_query for ranking in rankings] == [False, True]


@pytest.mark.parametrize("odd", [None, float("nan"), 7, b"oil", {"id": 1}])
def test_in_a_pipeline_what_is_no_text_is_blank_and_reported(reranker, odd):
    stage = RerankStage(reranker=reranker, report_truncation=True)

    ranking = stage.run("chain \ud800", ["wax", odd, "oil \ud800"])

    assert [(hit.index, hit.is_repaired) for hit in ranking] == [(2, True), (0, False), (1, True)]
    assert ranking[2].score == 0.0
    assert stage.notes(ranking[0], ranking) == {"rerank_repaired": True, "rerank_query_repaired": True}
    assert stage.notes(ranking[1], ranking) == {"rerank_query_repaired": True}


# Long queries


def test_the_middle_of_a_long_query_is_cut_and_reported(tiny_folder):
    reranker = Reranker(tiny_folder, device="cpu", max_window_tokens=40)
    ends = words(8), words(8, first=8)

    ranking, other = reranker.rank_many([f"{ends[0]} {'pump ' * 60}{ends[1]}", "oil"], [["wax", "rim"]] * 2)

    cut = ranking.truncated_query
    assert (cut.index, cut.num_tokens) == (0, 76)
    assert other.truncated_query is None
    left = 76 - cut.num_lost
    assert left >= 20
    # The same logits as for both ends with as much of the middle.
    same = reranker.rank(f"{ends[0]} {'pump ' * (left - 16)}{ends[1]}", ["wax", "rim"])
    assert same.truncated_query is None
    assert [hit.logit for hit in ranking] == pytest.approx([hit.logit for hit in same], abs=1e-5)


@pytest.mark.parametrize("backbone", ["modernbert", "deberta-v2"], indirect=True)  # the plan `joint`
def test_a_long_query_leaves_passages_a_quarter_of_their_window(tiny_folder):
    reranker = Reranker(tiny_folder, device="cpu", max_window_tokens=40, long_passages="cut")

    ranking = reranker.rank("pump " * 60, [words(9), words(10, first=5)])

    assert ranking.truncated == (Truncation(1, 10, 1),)


def test_a_long_query_gives_way_to_no_example(tiny_folders):
    reranker = Reranker(tiny_folders["bert"], device="cpu", max_window_tokens=40)

    ranking = reranker.rank("pump " * 60, ["oil"], examples=[Example("wax", ["rim"])])

    assert ranking.truncated_query.num_lost == 22
    assert [cut.num_lost for cut in ranking.truncated_examples] == [2]


def test_a_cascade_reports_the_larger_cut_of_a_query(tiny_folders, tmp_path):
    reranker = Reranker(cascade_of(tmp_path), device="cpu", max_window_tokens=40)

    assert reranker.rank("pump " * 60, ["oil", "wax"]).truncated_query == Truncation(0, 60, 22)


def test_a_stage_reports_what_its_query_lost(tiny_folders):
    stage = RerankStage(tiny_folders["bert"], device="cpu", max_window_tokens=40, report_truncation=True)

    ranking = stage.run("pump " * 60, ["oil"])

    assert ranking.query_tokens_lost == 22
    assert stage.notes(ranking[0], ranking) == {"rerank_query_tokens_lost": 22}


def test_on_request_a_long_query_is_an_error(tiny_folders):
    reranker = Reranker(tiny_folders["bert"], device="cpu", max_window_tokens=40, long_query="error")

    with pytest.raises(WindowOverflowError, match="the query takes 62 tokens, more than the window's 40"):
        reranker.rank("pump " * 60, ["oil"])


# Long passages


def cascade_of(folder, **settings):
    parts = {
        "first": write_tiny_checkpoint(folder / "first", "modernbert", attention_plan="shared_query"),
        "second": write_tiny_checkpoint(folder / "second", "bert", attention_plan="shared_query"),
    }
    save_cascade(CascadeConfig(first="first", second="second", **settings), folder / "both", parts)
    return folder / "both"


def sentences(count, length=5):
    """Sentences of `length` tokens, no two alike."""
    return [f"{words(length - 1, first=3 * number)}." for number in range(count)]


LONG = " ".join(sentences(24))


def of_chunks(reranker, text, spans):
    """Logit of the best chunk, ranked as passages of their own."""
    return max(hit.logit for hit in reranker.rank(QUERY, [text[slice(*span)] for span in spans]))


def test_a_long_passage_has_the_score_of_its_best_chunk(tiny_folder):
    reranker = Reranker(tiny_folder, device="cpu", max_window_tokens=48, long_passages="best_chunk")

    ranking = reranker.rank(QUERY, ["oil", {"id": 1, "text": LONG}, LONG])

    assert ranking.truncated == ()
    hits = {hit.index: hit for hit in ranking}
    assert hits[0].chunk is None
    assert hits[1].chunk == hits[2].chunk
    chunk = LONG[slice(*hits[1].chunk)]
    assert chunk.endswith(".")
    assert chunk[0] in "".join(WORDS)
    assert json.loads(json.dumps(hits[1].to_dict()))["chunk"] == [*hits[1].chunk]


@pytest.mark.parametrize("backbone", ["bert"], indirect=True)
def test_the_best_chunk_is_the_best_of_all(tiny_folder):
    reranker = Reranker(tiny_folder, device="cpu", max_window_tokens=48, long_passages="best_chunk")

    (hit,) = reranker.rank(QUERY, [LONG])

    parts = [" ".join(sentences(24)[start : start + 8]) for start in range(17)]
    chunk = LONG[slice(*hit.chunk)]
    assert hit.logit == pytest.approx(reranker.rank(QUERY, [chunk])[0].logit, abs=1e-5)
    covered = {part for part in parts if part in chunk or chunk in part}
    others = [each.logit for each in reranker.rank(QUERY, [part for part in parts if part not in covered])]
    assert len(others) > 3
    assert hit.logit >= sorted(others)[len(others) // 2]


@pytest.mark.parametrize("backbone", ["bert"], indirect=True)
def test_a_chunk_costs_its_own_tokens_alone(tiny_folder):
    blocks = {}
    for way in ("cut", "best_chunk"):
        reranker = Reranker(tiny_folder, device="cpu", max_window_tokens=48, long_passages=way)
        executor = reranker._pipeline._executor
        found, run = [], executor.network.block_logits
        executor.network.block_logits = lambda blocks, *rest, run=run, found=found: (
            found.append(blocks) or run(blocks, *rest)
        )
        reranker.rank(QUERY, [LONG])
        (blocks[way],) = found

    assert blocks["cut"].query_ids == blocks["best_chunk"].query_ids
    assert sum(map(len, blocks["best_chunk"].candidate_ids)) < 1.25 * 24 * 5 + 2 * 4
    assert max(map(len, blocks["best_chunk"].candidate_ids)) <= 48


def test_chunks_come_from_the_passage_cache(tmp_path):
    folder = write_tiny_checkpoint(tmp_path / "model", "bert", query_attention_start=2, squeeze_layers=False)
    settings = {"device": "cpu", "max_window_tokens": 48, "long_passages": "best_chunk"}
    plain = Reranker(folder, **settings)
    assert plain.precompute([LONG, "oil"], tmp_path / "cache").num_passages > 3

    cached = Reranker(folder, passage_cache=tmp_path / "cache", **settings)

    expected, found = (each.rank(QUERY, [LONG, "oil"]) for each in (plain, cached))
    assert [(hit.index, hit.chunk) for hit in found] == [(hit.index, hit.chunk) for hit in expected]
    assert [hit.logit for hit in found] == pytest.approx([hit.logit for hit in expected], abs=2e-2)


def test_the_second_model_of_a_cascade_reads_the_first_ones_best_chunk(tmp_path):
    folder = cascade_of(tmp_path, first_weight=0.25)
    settings = {"device": "cpu", "max_window_tokens": 48, "long_passages": "best_chunk"}

    (hit,) = Reranker(folder, **settings).rank(QUERY, [LONG])

    (first,) = Reranker(tmp_path / "first", **settings).rank(QUERY, [LONG])
    (second,) = Reranker(tmp_path / "second", **settings).rank(QUERY, [LONG[slice(*first.chunk)]])
    assert hit.chunk == first.chunk
    assert hit.logit == pytest.approx(0.25 * first.logit + 0.75 * second.logit, abs=1e-5)


def test_a_first_model_that_reads_beginnings_leaves_the_chunks_to_the_second(tmp_path):
    folder = cascade_of(tmp_path, first_weight=0.0, first_passage_tokens=16)
    settings = {"device": "cpu", "long_passages": "best_chunk"}
    long = " ".join(sentences(80))

    (hit,) = Reranker(folder, **settings).rank(QUERY, [long])

    (second,) = Reranker(tmp_path / "second", **settings).rank(QUERY, [long])
    assert (hit.chunk, hit.logit) == (second.chunk, pytest.approx(second.logit, abs=1e-5))


def test_chunks_stand_beside_examples(tiny_folder):
    reranker = Reranker(tiny_folder, device="cpu", max_window_tokens=48, long_passages="best_chunk")

    ranking = reranker.rank(QUERY, [LONG, "oil"], examples=[Example("wax", ["rim"])])

    assert {hit.index: hit.chunk is not None for hit in ranking} == {0: True, 1: False}


def test_a_stage_counts_the_characters_of_a_chunk_without_its_prefix(tiny_folders):
    settings = {"device": "cpu", "max_window_tokens": 48, "long_passages": "best_chunk"}
    stage = RerankStage(tiny_folders["bert"], passage_prefix="oil: ", report_truncation=True, **settings)

    ranking = stage.run(QUERY, ["rim", LONG])

    (hit,) = (hit for hit in ranking if hit.index == 1)
    (alone,) = Reranker(tiny_folders["bert"], **settings).rank(QUERY, ["oil: " + LONG])
    assert LONG[slice(*hit.chunk)] == ("oil: " + LONG)[slice(*alone.chunk)].removeprefix("oil: ")
    start, end = hit.chunk
    assert stage.notes(hit, ranking) == {"rerank_chunk_start": start, "rerank_chunk_end": end}


def test_a_passage_of_very_many_chunks_is_cut_and_reported(tiny_folders):
    reranker = Reranker(tiny_folders["bert"], device="cpu", max_window_tokens=16, long_passages="best_chunk")

    ranking = reranker.rank(QUERY, [" ".join(sentences(120)), "oil"])

    ((index, lost),) = [(cut.index, cut.num_lost) for cut in ranking.truncated]
    assert index == 0
    assert 200 < lost < 400
