"""Removal of entries from a feedback log."""

from __future__ import annotations

import sqlite3
from typing import Final

# Texts that no list and no judgement refers to any more.
_ORPHANS: Final = (
    "DELETE FROM texts WHERE NOT EXISTS (SELECT 1 FROM shown WHERE shown.digest = texts.digest)"
    " AND NOT EXISTS (SELECT 1 FROM signals WHERE signals.digest = texts.digest)"
)


def forget(connection: sqlite3.Connection, *, query: bytes | None, name: str | None) -> int:
    """Remove everything about a query or an id, within a transaction.

    Args:
        connection: Connection in a transaction.
        query: Digest of a query; None for none.
        name: Id of a ranking, or the caller's id of a passage; None for none.

    Returns:
        Number of rankings, places in lists and signals that were removed.
    """
    num_removed = 0
    if query is not None:
        num_removed += _forget_rankings(connection, "digest = ?", query)
        num_removed += connection.execute("DELETE FROM signals WHERE query_digest = ?", (query,)).rowcount
    if name is not None:
        num_removed += _forget_rankings(connection, "id = ?", name)
        num_removed += _forget_passage(connection, name)
    if num_removed:
        connection.execute(_ORPHANS)
    return num_removed


def forget_before(connection: sqlite3.Connection, limit: float) -> None:
    """Remove what is older than a time in seconds since 1970, within a transaction."""
    _forget_rankings(connection, "time < ?", limit)
    connection.execute("DELETE FROM signals WHERE time < ?", (limit,))
    connection.execute(_ORPHANS)


def _forget_rankings(connection: sqlite3.Connection, condition: str, value: object) -> int:
    chosen = f"FROM rankings WHERE {condition}"
    signals = connection.execute(f"DELETE FROM signals WHERE ranking IN (SELECT id {chosen})", (value,)).rowcount
    connection.execute(f"DELETE FROM shown WHERE ranking IN (SELECT number {chosen})", (value,))
    return signals + connection.execute(f"DELETE {chosen}", (value,)).rowcount


def _forget_passage(connection: sqlite3.Connection, name: str) -> int:
    """Remove a passage from all lists, with its signals and its judgements."""
    places = (
        "SELECT rankings.id, shown.place, shown.digest FROM shown JOIN rankings ON rankings.number = shown.ranking"
        " WHERE object = ?"
    )
    found = connection.execute(places, (name,)).fetchall()
    signals = sum(
        connection.execute("DELETE FROM signals WHERE ranking = ? AND place = ?", (ranking, place)).rowcount
        for ranking, place, _ in found
    )
    digests = {digest for *_, digest in found if digest is not None}
    signals += sum(connection.execute("DELETE FROM signals WHERE digest = ?", (digest,)).rowcount for digest in digests)
    return signals + connection.execute("DELETE FROM shown WHERE object = ?", (name,)).rowcount
