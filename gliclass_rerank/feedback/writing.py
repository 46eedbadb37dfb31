"""Rows of a feedback log."""

from __future__ import annotations

import hmac
import json
import sqlite3
from collections.abc import Sequence
from typing import Final

from gliclass_rerank.examples.text_identity import text_identity
from gliclass_rerank.feedback.entries import LoggedRanking, ShownPassage, Signal

_DIGEST_BYTES: Final = 16


class Digests:
    """Keyed digests of texts: without the file nobody can test which text one belongs to.

    Args:
        secret: Key.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def of_query(self, query: str) -> bytes:
        """Digest a query, regardless of case and white space."""
        return self.of_passage(text_identity(query))

    def of_passage(self, text: str) -> bytes:
        """Digest a passage."""
        return hmac.digest(self._secret, text.encode(), "sha256")[:_DIGEST_BYTES]


def add_rankings(
    connection: sqlite3.Connection, rankings: Sequence[LoggedRanking], digests: Digests, *, keep_texts: bool
) -> None:
    """Add rankings within a transaction, except those whose id is there already.

    Args:
        connection: Connection in a transaction.
        rankings: Rankings.
        digests: Digests of the log.
        keep_texts: Keep queries and passages.
    """
    for ranking in rankings:
        query = ranking.query or ""
        scope = json.dumps(dict(ranking.where), sort_keys=True)
        values = (
            ranking.id,
            ranking.time,
            ranking.model,
            digests.of_query(query),
            query if keep_texts else None,
            scope,
        )
        added = connection.execute(
            "INSERT OR IGNORE INTO rankings (id, time, model, digest, query, scope) VALUES (?, ?, ?, ?, ?, ?)", values
        )
        if not added.rowcount:
            continue
        number = added.lastrowid
        connection.executemany(
            "INSERT INTO shown VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            ((number, position, *_passage_row(one, digests)) for position, one in enumerate(ranking.shown)),
        )
        if keep_texts:
            _keep(connection, [one.text for one in ranking.shown], digests)


def _passage_row(one: ShownPassage, digests: Digests) -> tuple[object, ...]:
    digest = None if one.text is None else digests.of_passage(one.text)
    return one.index, digest, one.id, one.logit, one.score, one.judged


def add_signals(
    connection: sqlite3.Connection, signals: Sequence[Signal], digests: Digests, *, keep_texts: bool, skip_known: bool
) -> None:
    """Add signals within a transaction.

    Args:
        connection: Connection in a transaction.
        signals: Signals.
        digests: Digests of the log.
        keep_texts: Keep queries and passages of judgements.
        skip_known: Leave out signals that are there already.
    """
    columns = ("kind", "time", "value", "ranking", "place", "query_digest", "query", "digest")
    insert = f"INSERT INTO signals ({', '.join(columns)}) SELECT {', '.join('?' * len(columns))}"
    if skip_known:
        same = " AND ".join(f"{name} IS ?{number}" for number, name in enumerate(columns, start=1) if name != "query")
        insert = f"INSERT INTO signals ({', '.join(columns)}) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8"
        insert += f" WHERE NOT EXISTS (SELECT 1 FROM signals WHERE {same})"
    connection.executemany(insert, (_signal_row(one, digests, keep_texts=keep_texts) for one in signals))
    if keep_texts:
        _keep(connection, [one.text for one in signals], digests)


def _signal_row(one: Signal, digests: Digests, *, keep_texts: bool) -> tuple[object, ...]:
    query = None if one.query is None else digests.of_query(one.query)
    digest = None if one.text is None else digests.of_passage(one.text)
    kept = one.query if keep_texts else None
    return one.kind, one.time, one.value, one.ranking_id, one.index, query, kept, digest


def _keep(connection: sqlite3.Connection, texts: Sequence[str | None], digests: Digests) -> None:
    known = {text: digests.of_passage(text) for text in texts if text is not None}
    connection.executemany(
        "INSERT OR IGNORE INTO texts VALUES (?, ?)", ((value, text) for text, value in known.items())
    )
