"""The log of what was shown and of what users did: what is kept, what is refused, what is forgotten."""

import math
import os
import sqlite3
import stat
import time

import numpy as np
import pytest

from gliclass_rerank.errors import DataError, InputError
from gliclass_rerank.feedback import FeedbackLog, LoggedRanking, ShownPassage, Signal

QUERY = "Larry is stuck"
SHOWN = (
    ShownPassage(2, 1.5, 0.8, "Printer: open the tray.", "doc-2"),
    ShownPassage(0, -0.5, 0.4, "Lift: ring the bell.", "doc-0", "irrelevant"),
    ShownPassage(1, None, None, "Museum: closed."),
)


def ranking(name="r1", query=QUERY, shown=SHOWN, at=None, **where):
    return LoggedRanking(name, time.time() if at is None else at, "tiny@1", query, shown, where)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "feedback.db"


@pytest.fixture
def log(path):
    with FeedbackLog(path) as made:
        yield made


def whole_file(path):
    return b"".join(part.read_bytes() for part in sorted(path.parent.iterdir()))


def test_what_was_shown_is_read_as_it_was_written(log, path):
    entries = [ranking("r1", tenant="north"), ranking("r2", "who repairs Larry?", SHOWN[:1])]
    log.add(entries)

    assert list(log.rankings()) == entries
    assert log.ranking("r2") == entries[1]
    with FeedbackLog(path) as other:
        assert list(other.rankings()) == entries


def test_a_ranking_is_added_once(log):
    log.add([ranking("r1", shown=SHOWN[:1])])
    log.add([ranking("r1"), ranking("r2")])

    assert [(one.id, len(one.shown)) for one in log.rankings()] == [("r1", 1), ("r2", 3)]


def test_signals_are_read_as_they_were_given(log):
    log.add([ranking()])
    before = time.time()

    log.clicks("r1", [2, np.int64(0)])
    log.graded("r1", {1: 3, 0: False})
    log.rating("r1", True)
    log.judged(QUERY, relevant=["Printer: pull."], irrelevant=["Lift: wait."])

    found = list(log.signals())
    assert [(one.kind, one.value, one.ranking_id, one.index) for one in found] == [
        ("click", 1.0, "r1", 2),
        ("click", 1.0, "r1", 0),
        ("grade", 3.0, "r1", 1),
        ("grade", 0.0, "r1", 0),
        ("rating", 1.0, "r1", None),
        ("judgement", 1.0, None, None),
        ("judgement", 0.0, None, None),
    ]
    assert [(one.query, one.text) for one in found[5:]] == [(QUERY, "Printer: pull."), (QUERY, "Lift: wait.")]
    assert all(before <= one.time <= time.time() for one in found)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda log: log.clicks("r2", [0]), "the log has no ranking 'r2'"),
        (lambda log: log.clicks("r1", [3]), "the ranking 'r1' has no passage of the index 3"),
        (lambda log: log.clicks("r1", [True]), "the ranking 'r1' has no passage of the index True"),
        (lambda log: log.clicks("r1", ["0"]), "the ranking 'r1' has no passage of the index '0'"),
        (lambda log: log.clicks("r1", "0"), "`indices` must be a list of positions, got '0'"),
        (lambda log: log.clicks("r1", 0), "`indices` must be a list of positions, got 0"),
        (lambda log: log.clicks("r1", [[]]), "`indices` cannot be read: TypeError"),
        (lambda log: log.clicks(None, [0]), "`ranking_id` must be a string, got None"),
        (lambda log: log.rating("r1", 1.5), "`value` must be between 0 and 1, got 1.5"),
        (lambda log: log.rating("r1", "good"), "`value` must be between 0 and 1, got 'good'"),
        (lambda log: log.graded("r1", {0: -1}), "a grade must be a number of at least 0, got -1"),
        (lambda log: log.graded("r1", {0: math.nan}), "a grade must be a number of at least 0, got nan"),
        (lambda log: log.graded("r1", [0]), r"`grades` must be a mapping from positions to grades, got \[0\]"),
        (lambda log: log.judged(7, ["a"]), "`query` must be a string, got 7"),
        (lambda log: log.forget(), "`query` or `id` must be given, got None for both"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_kept(log, call, message):
    log.add([ranking()])

    with pytest.raises(InputError, match=message):
        call(log)
    assert list(log.signals()) == []


# Privacy


def test_without_texts_only_ids_and_digests_are_kept(path):
    with FeedbackLog(path, keep_texts=False) as log:
        log.add([ranking()])
        log.judged("a hidden question", relevant=["a hidden answer"])
        (kept,) = log.rankings()
        assert kept.query is None
        assert [(one.index, one.text, one.id) for one in kept.shown] == [
            (2, None, "doc-2"),
            (0, None, "doc-0"),
            (1, None, None),
        ]
        (signal,) = log.signals()
        assert (signal.query, signal.text, signal.value) == (None, None, 1.0)
        contents = whole_file(path)
        assert b"Larry" not in contents
        assert b"Printer" not in contents
        assert b"hidden" not in contents
        assert log.forget(query="  LARRY is stuck") == 1  # known by its digest


def test_a_query_is_forgotten_with_everything_about_it(log, path):
    log.add([ranking("r1"), ranking("r2", "LARRY  is stuck"), ranking("r3", "another", SHOWN[:1])])
    log.clicks("r1", [0])
    log.clicks("r3", [2])
    log.judged(QUERY, relevant=["Only here."])

    assert log.forget(query=QUERY) == 4

    assert [one.id for one in log.rankings()] == ["r3"]
    assert [one.ranking_id for one in log.signals()] == ["r3"]
    contents = whole_file(path)
    assert not any(text in contents for text in (b"Larry", b"LARRY", b"Lift", b"Only here", b"doc-0"))
    assert b"Printer" in contents  # still in the other ranking
    assert log.forget(query=QUERY) == 0


def test_a_passage_is_forgotten_by_the_callers_id(log, path):
    log.add([ranking("r1"), ranking("r2", "another")])
    log.clicks("r1", [0, 2])
    log.judged("another", irrelevant=["Lift: ring the bell."])

    assert log.forget(id="doc-0") == 4

    assert [[passage.id for passage in one.shown] for one in log.rankings()] == [["doc-2", None]] * 2
    assert [one.index for one in log.signals()] == [2]
    assert b"Lift" not in whole_file(path)


def test_a_ranking_is_forgotten_by_its_id(log):
    log.add([ranking("r1"), ranking("r2", "another")])
    log.rating("r1", 0)

    assert log.forget(id="r1") == 2

    assert [one.id for one in log.rankings()] == ["r2"]
    assert list(log.signals()) == []


def test_what_is_too_old_is_forgotten(path):
    day = 86400.0
    with FeedbackLog(path) as log:
        log.add([ranking("old", at=time.time() - 31 * day, shown=SHOWN[1:]), ranking("new", shown=SHOWN[:1])])
        log.add_signals([Signal("click", time.time() - 31 * day, 1.0, "old", 0)])
        log.clicks("old", [0])

    with FeedbackLog(path, keep_days=30) as log:
        assert [one.id for one in log.rankings()] == ["new"]
        assert list(log.signals()) == []
        assert b"Lift" not in whole_file(path)


def test_the_file_is_its_owners(log, path):
    log.add([ranking()])

    assert {stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()} == {0o600}


# The file


def test_a_closed_log_is_refused(log):
    log.close()
    assert log.is_closed
    with pytest.raises(InputError, match=r"the log `.*feedback.db` is closed"):
        log.add([ranking()])


def test_what_is_no_log_is_refused(path, tmp_path):
    path.write_bytes(b"no database at all, but long enough to be looked at" * 10)
    with pytest.raises(DataError, match="is no feedback log"):
        FeedbackLog(path)
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE bookmarks (url TEXT)")
    other.close()
    with pytest.raises(DataError, match="is no feedback log"):
        FeedbackLog(tmp_path / "other.db")
    with pytest.raises(InputError, match="a log is a file in an existing folder"):
        FeedbackLog(tmp_path / "missing" / "feedback.db")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("rankings.scope", "[]"),
        ("rankings.scope", "{"),
        ("rankings.model", b"x"),
        ("shown.place", "x"),
        ("shown.judged", "x"),
    ],
)
def test_odd_values_are_refused(log, path, column, value):
    log.add([ranking()])
    table, _, name = column.partition(".")
    connection = sqlite3.connect(path)
    connection.execute(f"UPDATE {table} SET {name} = ?", (value,))
    connection.commit()
    connection.close()

    with pytest.raises(DataError, match=r"the log `.*` is broken"):
        list(log.rankings())


def test_a_trigger_in_the_file_never_fires(log, path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TRIGGER greedy AFTER INSERT ON rankings BEGIN DELETE FROM signals; END")
    connection.commit()
    connection.close()

    with pytest.raises(DataError, match="is no feedback log: it has other tables than one"):
        log.add([ranking()])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_writes_to_the_same_log(log):
    log.add([ranking()])
    child = os.fork()
    if not child:
        try:
            log.clicks("r1", [0])
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    log.clicks("r1", [1])

    assert [one.index for one in log.signals()] == [0, 1]
