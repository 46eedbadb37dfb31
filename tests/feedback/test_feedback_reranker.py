"""Rerankers and stages that log what they show."""

import asyncio
import pickle
import sqlite3

import pytest

from gliclass_rerank import ConfigError, DataError, InputError, Reranker, RerankStage
from gliclass_rerank.feedback import FeedbackLog

QUERY = "Larry is stuck"
PASSAGES = ["Lift: ring the bell.", "Printer: open the tray.", "Museum: closed.", "Lift: ring the bell."]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "feedback.db"


@pytest.fixture
def tiny(tiny_folders, path):
    return lambda **settings: Reranker(tiny_folders["bert"], device="cpu", **{"log": path, **settings})


def hits(ranking):
    return [(hit.index, hit.logit, hit.score) for hit in ranking]


def test_a_ranking_is_logged_with_its_logits_and_the_models_version(tiny, tiny_folders):
    reranker = tiny()
    ranking = reranker.rank(QUERY, PASSAGES, top_k=3, where={"tenant": "north"})

    logged = reranker.log.ranking(ranking.id)

    assert logged.query == QUERY
    assert logged.where == {"tenant": "north"}
    assert hits(logged.shown) == hits(ranking)
    assert [one.text for one in logged.shown] == [PASSAGES[hit.index] for hit in ranking]
    name, _, version = logged.model.rpartition("@")
    assert name == reranker.name
    assert len(version) == 12
    assert Reranker(tiny_folders["modernbert"], device="cpu", log=reranker.log.path).rank(QUERY, PASSAGES).id
    assert len({one.model.rpartition("@")[2] for one in reranker.log.rankings()}) == 2


def test_without_a_log_there_is_no_id_and_no_file(tiny, path):
    reranker = tiny(log=None)

    assert reranker.rank(QUERY, PASSAGES).id is None
    assert reranker.log is None
    assert not path.exists()


def test_a_log_changes_no_ranking(tiny):
    assert tiny().rank(QUERY, PASSAGES).hits == tiny(log=None).rank(QUERY, PASSAGES).hits


def test_many_queries_have_ids_of_their_own(tiny):
    reranker = tiny()

    rankings = reranker.rank_many([QUERY, "another", "none"], [PASSAGES, PASSAGES[:2], []])
    (again,) = asyncio.run(reranker.arank_many([QUERY], [PASSAGES]))

    logged = list(reranker.log.rankings())
    assert [one.id for one in logged] == [*(ranking.id for ranking in rankings), again.id]
    assert len({one.id for one in logged}) == 4
    assert [len(one.shown) for one in logged] == [4, 2, 0, 4]


def test_a_call_can_be_left_out(tiny):
    reranker = tiny()

    assert reranker.rank(QUERY, PASSAGES, log=False).id is None
    assert asyncio.run(reranker.arank(QUERY, PASSAGES, log=False)).id is None
    assert list(reranker.log.rankings()) == []


def test_clicks_reach_the_log_of_the_ranking(tiny):
    reranker = tiny()
    ranking = reranker.rank(QUERY, PASSAGES)

    reranker.log.clicks(ranking.id, [ranking[1].index])
    reranker.log.rating(ranking.id, 0.5)

    assert [(one.ranking_id, one.index, one.value) for one in reranker.log.signals()] == [
        (ranking.id, ranking[1].index, 1.0),
        (ranking.id, None, 0.5),
    ]


def test_feedback_is_logged_too_and_needs_no_store(tiny):
    reranker = tiny()
    name = reranker.feedback(QUERY, relevant=PASSAGES[1:2], irrelevant=PASSAGES[2:3])

    assert name == reranker.feedback(f"{QUERY} ", relevant=PASSAGES[1:2])
    assert [(one.kind, one.query, one.text, one.value) for one in reranker.log.signals()] == [
        ("judgement", QUERY, PASSAGES[1], 1.0),
        ("judgement", QUERY, PASSAGES[2], 0.0),
        ("judgement", f"{QUERY} ", PASSAGES[1], 1.0),
    ]
    with pytest.raises(ConfigError, match="feedback needs a store"):
        tiny(log=None).feedback(QUERY, relevant=PASSAGES[:1])


def test_texts_can_be_left_out(tiny, path):
    reranker = tiny(log_texts=False)
    ranking = reranker.rank(QUERY, PASSAGES)

    logged = reranker.log.ranking(ranking.id)

    assert logged.query is None
    assert {one.text for one in logged.shown} == {None}
    assert hits(logged.shown) == hits(ranking)
    assert b"Larry" not in b"".join(part.read_bytes() for part in path.parent.glob("feedback.db*"))


def test_a_log_is_shared_within_a_process_and_closed_with_its_last_user(tiny, path):
    one, other = tiny(), tiny()
    assert other.log is one.log
    kept = one.log

    del one, other
    assert not kept.is_closed
    del kept
    with FeedbackLog(path) as alone:
        assert list(alone.rankings()) == []


def test_a_log_that_can_no_longer_be_written_stops_no_ranking_and_warns_once(tiny, path, caplog):
    reranker = tiny()
    expected = reranker.rank(QUERY, PASSAGES).hits
    path.unlink()

    with pytest.warns(RuntimeWarning, match=r"nothing is logged: the log `.*` was deleted or replaced"):
        ranking = reranker.rank(QUERY, PASSAGES)

    assert (ranking.hits, ranking.id) == (expected, None)
    assert reranker.rank(QUERY, PASSAGES).id is None  # a second warning would be an error
    assert caplog.text.count("nothing is logged") == 1


def test_wrong_settings_of_a_log_are_refused_at_once(tiny, tmp_path):
    with pytest.raises(ConfigError, match="a log is a file in an existing folder"):
        tiny(log=tmp_path / "missing" / "feedback.db")
    with pytest.raises(ConfigError, match="`log` must be a path, got 7"):
        tiny(log=7)
    with pytest.raises(ConfigError, match="`log_days` must be a whole number of at least 1, got 0"):
        tiny(log_days=0)
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE bookmarks (url TEXT)")
    other.close()
    with pytest.raises(DataError, match="is no feedback log"):
        tiny(log=tmp_path / "other.db")


def test_settings_of_a_log_travel_in_a_pickle(tiny, path):
    again = pickle.loads(pickle.dumps(tiny(log_texts=False, log_days=3)))

    assert again.settings["log"] == str(path)
    assert again.rank(QUERY, PASSAGES).id is not None


# In a stage


def test_a_stage_logs_what_it_returns(tiny):
    reranker = tiny()
    stage = RerankStage(
        reranker=reranker, query_prefix="query: ", passage_prefix="passage: ", fusion="weighted", top_k=2
    )

    ranking = stage.run(QUERY, [*PASSAGES[:3], " "], [1.0, 2.0, 3.0, 4.0], where={"tenant": "north"})

    (logged,) = reranker.log.rankings()
    assert logged.id == ranking.id
    assert (logged.query, logged.where) == (QUERY, {"tenant": "north"})
    assert hits(logged.shown) == hits(ranking)
    assert [one.text for one in logged.shown] == [PASSAGES[hit.index] for hit in ranking]
    assert all(hit.logit is not None for hit in ranking)
    notes = stage.notes(ranking[0], ranking)
    reranker.log.clicks(notes["ranking_id"], [notes["ranking_index"]])
    with pytest.raises(InputError, match="has no passage of the index 3"):
        reranker.log.clicks(ranking.id, [3])


def test_a_stage_without_a_log_notes_no_id(tiny):
    stage = RerankStage(reranker=tiny(log=None))
    ranking = stage.run(QUERY, PASSAGES)

    assert ranking.id is None
    assert not {"ranking_id", "ranking_index"} & stage.notes(ranking[0], ranking).keys()


def test_a_stage_takes_the_settings_of_a_log(tiny_folders, path):
    stage = RerankStage(tiny_folders["bert"], device="cpu", log=path, log_texts=False)
    ranking = stage.run(QUERY, PASSAGES)

    with FeedbackLog(path) as log:
        assert log.ranking(ranking.id).query is None
    assert pickle.loads(pickle.dumps(stage)).run(QUERY, PASSAGES).id not in (None, ranking.id)
