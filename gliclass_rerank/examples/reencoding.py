"""Embedding of a whole store anew with another encoder."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

from gliclass_rerank.checks import named
from gliclass_rerank.database.private_files import create_private
from gliclass_rerank.errors import DataError
from gliclass_rerank.examples.changes import Change
from gliclass_rerank.examples.encoders import StoreEncoder, encode_checked
from gliclass_rerank.examples.records import Records
from gliclass_rerank.examples.rows import Identity, NewRecord, metadata_text
from gliclass_rerank.examples.store_files import clear_leftovers, index_path, renewed_path


def reencode_store(target: Path, encoder: StoreEncoder, identity: Identity) -> int:
    """Replace a closed store by one with the vectors of another encoder; atomic.

    Args:
        target: Store file.
        encoder: New encoder.
        identity: Its identity.

    Returns:
        Number of examples.

    Raises:
        DataError: The store is missing or open.
        BackendError: The encoder failed.
    """
    if not os.path.exists(target):
        raise DataError(f"there is no store `{named(target)}`")
    partial = renewed_path(target)
    with closing(Records(target)) as source, source.database.exclusively():
        clear_leftovers(target)
        create_private(partial, source.database.mode)
        with closing(Records(partial)) as renewed:
            renewed.adopt(identity)
            for page in source.pages():
                new = [NewRecord(old.id, old.example, metadata_text("metadata", old.metadata)) for old in page.values()]
                vectors = encode_checked(encoder, [old.example.text for old in page.values()], dim=identity.dim)
                renewed.write(Change(added=new, vectors=vectors))
            num_examples = len(renewed)
        os.replace(partial, target)  # while nobody else can open the old file
    index_path(target).unlink(missing_ok=True)
    return num_examples
