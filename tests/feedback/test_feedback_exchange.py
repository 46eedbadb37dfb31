"""Logs in other formats: plain JSONL, complete, and User Behavior Insights 1.3."""

import json

import pytest

from gliclass_rerank.errors import DataError, InputError
from gliclass_rerank.feedback import FeedbackLog, LoggedRanking, ShownPassage
from gliclass_rerank.feedback.entries import now
from gliclass_rerank.learn.feedback import Imported, export_jsonl, export_ubi, import_jsonl, import_ubi

SHOWN = (
    ShownPassage(2, 1.5, 0.8, "Printer: öffne das Fach.", "doc-2"),
    ShownPassage(0, -0.5, 0.4, "Lift: ring the bell.", "doc-0", "irrelevant"),
    ShownPassage(1, None, None, "Museum: closed."),
)


@pytest.fixture
def log(tmp_path):
    with FeedbackLog(tmp_path / "feedback.db") as made:
        made.add(
            [
                LoggedRanking("r1", now(), "tiny@1", "Larry is stuck", SHOWN, {"tenant": "north"}),
                LoggedRanking("r2", now(), "tiny@2", "another", SHOWN[:2]),
            ]
        )
        made.clicks("r1", [0, 1])
        made.graded("r2", {2: 3})
        made.rating("r1", 0.25)
        yield made


@pytest.fixture
def other(tmp_path):
    with FeedbackLog(tmp_path / "other.db") as made:
        yield made


@pytest.fixture
def files(tmp_path):
    return tmp_path / "queries.jsonl", tmp_path / "events.jsonl"


def written(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_plain_lines_carry_everything(log, other, tmp_path):
    log.judged("Larry is stuck", relevant=["Only here."])
    assert export_jsonl(log, tmp_path / "log.jsonl") == 7

    assert import_jsonl(other, tmp_path / "log.jsonl") == Imported(2, 5)

    assert list(other.rankings()) == list(log.rankings())
    assert list(other.signals()) == list(log.signals())


def test_what_is_there_is_not_imported_again(log, tmp_path, files):
    before = list(log.rankings()), list(log.signals())
    export_jsonl(log, tmp_path / "log.jsonl")
    export_ubi(log, *files)

    import_jsonl(log, tmp_path / "log.jsonl")
    import_ubi(log, *files)

    assert (list(log.rankings()), list(log.signals())) == before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"type": "x"}, r"log.jsonl:1: `type` must be `ranking` or `signal`, got 'x'"),
        ({"type": "ranking", "id": 7}, "log.jsonl:1: `id` must be a string, got 7"),
        ({"type": "ranking", "id": "a", "time": "x"}, "`time` must be a number, got 'x'"),
        ({"type": "ranking", "id": "a", "time": 1, "model": "m", "shown": {}}, "`shown` must be a list of objects"),
        ({"type": "ranking", "id": "a", "time": 1, "model": "m", "shown": [{"index": -1}]}, "`index` must be a whole"),
        ({"type": "ranking", "id": "a", "time": 1, "model": "m", "shown": [], "where": 3}, "`where` must be an object"),
        ({"type": "signal", "kind": "x"}, "`kind` must be one of click, rating, grade, judgement, got 'x'"),
        ({"type": "signal", "kind": "click", "time": 1, "value": None}, "`value` must be a number, got None"),
        ([], "must be a JSON object"),
    ],
)
def test_lines_that_are_no_entries_are_refused_with_their_place(other, tmp_path, line, message):
    with pytest.raises(DataError, match=message):
        import_jsonl(other, written(tmp_path / "log.jsonl", line))


# User Behavior Insights


def test_queries_and_events_have_ubis_fields(log, files):
    log.judged("Larry is stuck", relevant=["Only here."])

    assert export_ubi(log, *files) == Imported(2, 4, 1)

    query, _ = map(json.loads, files[0].read_text().splitlines())
    assert query["query_id"] == "r1"
    assert query["user_query"] == "Larry is stuck"
    assert query["query_response_hit_ids"] == ["doc-2", "doc-0", "1"]
    assert query["timestamp"].endswith("Z")
    click, _, grade, rating = map(json.loads, files[1].read_text().splitlines())
    assert click["action_name"] == "click"
    assert click["query_id"] == "r1"
    assert click["event_attributes"] == {"object": {"object_id": "doc-0"}, "position": {"ordinal": 2}}
    assert grade["event_attributes"]["grade"] == 3.0
    assert (rating["message_type"], rating["message"]) == ("RATING", "0.25")
    assert "Printer" not in files[0].read_text()


def test_what_was_exported_is_imported_but_for_texts(log, other, files):
    export_ubi(log, *files)

    assert import_ubi(other, *files, texts={"doc-0": "Lift: ring the bell."}) == Imported(2, 4)

    found = other.ranking("r1")
    assert (found.query, found.model, found.where) == ("Larry is stuck", "tiny@1", {"tenant": "north"})
    assert [(one.index, one.logit, one.judged) for one in found.shown] == [
        (one.index, one.logit, one.judged) for one in SHOWN
    ]
    assert [one.text for one in found.shown] == [None, "Lift: ring the bell.", None]
    assert list(other.signals()) == list(log.signals())


def test_files_of_a_search_engine_are_read(other, files):
    query = {
        "application": "shop",
        "query_id": "q1",
        "client_id": "c1",
        "user_query": "tv",
        "timestamp": "2025-02-18T10:00:00.123Z",
        "query_response_hit_ids": ["a", "b", "7"],
    }
    event = {"query_id": "q1", "timestamp": "2025-02-18T10:00:05+00:00", "action_name": "click"}

    def of(name=None, place=None, **more):
        attributes = {"object": {"object_id": name}} if name is not None else {}
        return {**event, **more, "event_attributes": {**attributes, "position": {"ordinal": place}}}

    written(files[0], {"_index": "ubi_queries", "_source": query}, {"user_query": "no id"})
    lines = [
        of("b"),
        of(7, action_name="click_through"),
        of(place=1),  # an event that names no object, but its place
        of("x"),
        of("a", action_name="impression"),
        of("a", query_id="q9"),
        {"action_name": "login", "timestamp": "2025-02-18T10:00:05"},
        of("a", action_name="purchase"),
    ]
    written(files[1], *lines)

    assert import_ubi(other, *files, texts={"a": "A television."}, clicks=["click", "click_through"]) == Imported(
        1, 3, 6
    )

    (ranking,) = other.rankings()
    assert (ranking.id, ranking.query, ranking.model) == ("q1", "tv", "unknown")
    assert [(one.index, one.id, one.text) for one in ranking.shown] == [
        (0, "a", "A television."),
        (1, "b", None),
        (2, "7", None),
    ]
    assert [(one.kind, one.index) for one in other.signals()] == [("click", 1), ("click", 2), ("click", 0)]
    assert import_ubi(other, *files, clicks=["purchase"]).num_signals == 1


def test_wrong_files_are_refused_with_their_place(other, files, tmp_path):
    written(files[1])
    for fields, message in (
        ({"timestamp": "yesterday"}, "queries.jsonl:1: `timestamp` must be a time in ISO 8601, got 'yesterday'"),
        (
            {"timestamp": "2025-02-18T10:00:00Z", "query_response_hit_ids": "a"},
            "`query_response_hit_ids` must be a list",
        ),
    ):
        written(files[0], {"query_id": "q1", "user_query": "tv", **fields})
        with pytest.raises(DataError, match=message):
            import_ubi(other, *files)
    with pytest.raises(DataError, match=r"none.jsonl"):
        import_ubi(other, tmp_path / "none.jsonl", files[1])
    with pytest.raises(InputError, match="`clicks` must be a list of actions, got 'click'"):
        import_ubi(other, *files, clicks="click")
