"""Stores that are named by their path: opened once in a process, and shared by all who name them.

A store's file is locked while it is open. A reranker, a classifier and an unpickled copy of either in one process would
lock each other out, if each opened it for itself.
"""

from __future__ import annotations

from pathlib import Path
from weakref import WeakValueDictionary

from gliclass_rerank.checks import checked_path, reading
from gliclass_rerank.examples.forks import ForkedLock
from gliclass_rerank.examples.store import ExampleStore

_stores: WeakValueDictionary[Path, ExampleStore] = WeakValueDictionary()
_turn = ForkedLock()


def opened_store(path: str | Path) -> ExampleStore:
    """Open a store with the default encoder, or take it from whoever has it open by its path in this process.

    Args:
        path: The store's file; made if it does not exist.

    Returns:
        The store, which closes itself when nobody holds it any more.

    Raises:
        InputError: The path's folder does not exist.
        ConfigError: Another encoder filled the store.
        DataError: The store is open elsewhere, broken, of another format, or no store.
    """
    with reading("`example_store`"):
        place = checked_path("example_store", path).resolve()
    with _turn:
        store = _stores.get(place)
        if store is None or store.is_closed:
            store = _stores[place] = ExampleStore(place)
        return store
