"""Tables of a feedback log. Rows are added, and removed by forgetting only."""

from __future__ import annotations

from typing import Final

from gliclass_rerank.database.schema import Schema

LOG_SCHEMA: Final = Schema(
    noun="log",
    kind="feedback log",
    application_id=0x47435266,  # "GCRf"
    format=1,
    tables=(
        # One row: key of the digests, without which they could be compared with those of any other file.
        "CREATE TABLE log (secret BLOB NOT NULL)",
        # Passages, each once.
        "CREATE TABLE texts (digest BLOB PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE rankings (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, time REAL NOT NULL,"
        " model TEXT NOT NULL, digest BLOB NOT NULL, query TEXT, scope TEXT NOT NULL)",
        "CREATE TABLE shown (ranking INTEGER NOT NULL, position INTEGER NOT NULL, place INTEGER NOT NULL,"
        " digest BLOB, object TEXT, logit REAL, score REAL, judged TEXT, PRIMARY KEY (ranking, position))"
        " WITHOUT ROWID",
        "CREATE TABLE signals (number INTEGER PRIMARY KEY, kind TEXT NOT NULL, time REAL NOT NULL, value REAL NOT NULL,"
        " ranking TEXT, place INTEGER, query_digest BLOB, query TEXT, digest BLOB)",
        "CREATE INDEX rankings_by_digest ON rankings (digest)",
        "CREATE INDEX rankings_by_time ON rankings (time)",
        "CREATE INDEX shown_by_digest ON shown (digest)",
        "CREATE INDEX shown_by_object ON shown (object)",
        "CREATE INDEX signals_by_ranking ON signals (ranking)",
        "CREATE INDEX signals_by_query ON signals (query_digest)",
        "CREATE INDEX signals_by_digest ON signals (digest)",
        "CREATE INDEX signals_by_time ON signals (time)",
    ),
)
