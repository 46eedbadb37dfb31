"""Restoration of texts: training records, and texts with vectors."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from gliclass_rerank.errors import DataError
from gliclass_rerank.files.atomic_write import atomic_file, atomic_folder
from gliclass_rerank.learn.data.lists.block import Block, load_block
from gliclass_rerank.learn.data.lists.forms import text_of
from gliclass_rerank.learn.data.lists.kinds import KINDS, kinds_named
from gliclass_rerank.learn.data.lists.mixtures import MIXTURES, mixed
from gliclass_rerank.learn.data.lists.packed import Packed, load_packed
from gliclass_rerank.learn.data.lists.sources import read_items, source_digest
from gliclass_rerank.learn.data.lists.teachers import teacher_named
from gliclass_rerank.learn.data.lists.vectors import read_vectors
from gliclass_rerank.learn.data.records import RankingRecord

MIXTURE = "mixture"


def block_texts(data: Path, block: Block) -> list[str]:
    """Read the texts of a block in order, holding one data file in memory at a time.

    Args:
        data: Data folder of the lists.
        block: Block of lists.

    Returns:
        The texts.

    Raises:
        DataError: A file is missing, malformed or changed since mining.
    """
    texts = [""] * block.num_texts
    refs = block.refs()
    for position, name in enumerate(map(str, block.source_names)):
        items = read_items(data, name)
        if source_digest(items) != block.source_digests[position]:
            raise DataError(f"{data}: `{name}` is not the file that the lists were made from")
        for row in np.flatnonzero(block.text_source == position).tolist():
            if refs[row].number >= len(items):
                raise DataError(f"{data}: `{name}` has {len(items)} records, none of the number {refs[row].number}")
            texts[row] = text_of(refs[row], items)
    return texts


def join_files(
    data: Path, files: Sequence[Path], out: Path, *, kinds: Collection[str] | None = None, mixed_only: bool = False
) -> int:
    """Write packed lists as records, atomically, holding one block's texts in memory.

    Args:
        data: Data folder of the lists.
        files: Packed files.
        out: Target file.
        kinds: Kinds of lists to write; None for all.
        mixed_only: Skip lists without a mixture.

    Returns:
        Number of records.

    Raises:
        ConfigError: A kind is unknown.
        DataError: A file is missing, malformed or changed since mining.
    """
    count, wanted = 0, kinds_named(kinds)
    with atomic_file(out) as staging, staging.open("w", encoding="utf-8") as file:
        for path in files:
            for record in joined(load_packed(path), data, wanted):
                if not mixed_only or MIXTURE in record.teacher_scores:
                    file.write(record.to_line() + "\n")
                    count += 1
    return count


def joined(packed: Packed, data: Path, kinds: Collection[str] | None = None) -> Iterator[RankingRecord]:
    """Iterate over packed lists as records with teacher scores, `mixture` if complete, and the field `kind`."""
    block = packed.block
    texts = block_texts(data, block)
    for number in range(len(block)):
        kind = KINDS[block.kind[number]]
        if kinds is not None and kind.name not in kinds:
            continue
        slots = block.slots(number)
        rows, grades = block.candidate[slots].tolist(), block.grade[slots].tolist()
        record = RankingRecord(
            query=texts[block.query[number]],
            passages=tuple(texts[row] for row in rows),
            grades=tuple(None if grade < 0 else float(grade) for grade in grades),
            extra={"kind": kind.name},
        )
        scores = packed.scores_of(number)
        for name, values in scores.items():
            record = record.with_scores(name, values.tolist())
        mixture = mixed(MIXTURES[kind.target], scores, grades)
        yield record if mixture is None else record.with_scores(MIXTURE, mixture.tolist())


def write_texts(data: Path, work: Path, number: int, teachers: Sequence[str], out: Path) -> int:
    """Write texts with vectors, for training of encoders.

    ```
    texts.jsonl      {"text", "is_query"}, one line per row
    <teacher>.npy    Float16Array [num_texts, width]
    ```

    Args:
        data: Data folder of the lists.
        work: Folder of blocks.
        number: Number of the block.
        teachers: Teachers whose vectors are written.
        out: New folder.

    Returns:
        Number of texts embedded by all these teachers.

    Raises:
        DataError: A file is missing, malformed or changed since mining.
    """
    folder = work / f"block-{number:02}"
    block = load_block(folder / "lists.npz")
    vectors = {
        name: read_vectors(folder / "vectors" / f"{name}.f16", teacher_named(name).width or 1) for name in teachers
    }
    count = min(map(len, vectors.values()))
    made = np.flatnonzero(np.all([np.any(rows[:count], axis=1) for rows in vectors.values()], axis=0)).tolist()
    texts = block_texts(data, block)
    with atomic_folder(out) as staging:
        for name, rows in vectors.items():
            np.save(staging / f"{name}.npy", rows[made], allow_pickle=False)
        with (staging / "texts.jsonl").open("w", encoding="utf-8") as file:
            for row in made:
                line = {"text": texts[row], "is_query": bool(block.text_is_query[row])}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return len(made)
