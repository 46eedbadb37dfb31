"""Process-wide registry of stores opened by path.

An open store is locked; a reranker, a classifier and unpickled copies in one process share it instead of locking each
other out.
"""

from __future__ import annotations

from pathlib import Path
from weakref import WeakValueDictionary

from gliclass_rerank.calls.fork_hooks import ForkedLock
from gliclass_rerank.checks import checked_path, reading
from gliclass_rerank.examples.store import ExampleStore

_stores: WeakValueDictionary[Path, ExampleStore] = WeakValueDictionary()
_turn = ForkedLock()


def opened_store(path: str | Path) -> ExampleStore:
    """Open a store with the default encoder, or share the one already open in this process.

    Args:
        path: Store file; created if missing.

    Returns:
        The store, which closes when nobody references it.

    Raises:
        InputError: The path's folder does not exist.
        ConfigError: Another encoder filled the store.
        DataError: The store is open elsewhere, damaged, of another format, or not a store.
    """
    with reading("`example_store`"):
        place = checked_path("example_store", path).resolve()
    with _turn:
        store = _stores.get(place)
        if store is None or store.is_closed:
            store = _stores[place] = ExampleStore(place)
        return store
