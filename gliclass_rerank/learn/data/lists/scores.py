"""Growing file of a pairwise teacher's scores: float16 numbers, one per candidate.

Lists are scored in deterministic chunks; the file's size tells how far a killed run came. A chunk has lists of one
kind,
so that late interaction encodes shared passages once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gliclass_rerank.learn.data.lists.block import Block
from gliclass_rerank.learn.data.lists.kinds import KINDS
from gliclass_rerank.learn.data.lists.mixtures import LATE, MIXTURES
from gliclass_rerank.learn.data.progress import Progress, silent
from gliclass_rerank.text_models.interfaces import Teacher

_CHUNK: Final = 32
_LATE_CHUNK: Final = 256
_BYTES: Final = 2


def chunks_of(block: Block, teacher: str, scored: AbstractSet[int] = frozenset()) -> list[list[int]]:
    """List numbers in scoring order, by chunk.

    Args:
        block: Lists.
        teacher: Name of the teacher; lists of kinds whose mixture lacks it are left out.
        scored: Lists that already have its scores; left out.

    Returns:
        Numbers of the lists.
    """
    wanted = [number for number, kind in enumerate(KINDS) if teacher in MIXTURES[kind.target].weights]
    if teacher != LATE:
        lists = [number for number in np.flatnonzero(np.isin(block.kind, wanted)).tolist() if number not in scored]
        return [lists[start : start + _CHUNK] for start in range(0, len(lists), _CHUNK)]
    chunks = []
    for number in wanted:
        lists = [one for one in np.flatnonzero(block.kind == number).tolist() if one not in scored]
        chunks += [
            ((start + _LATE_CHUNK / 2) / len(lists), lists[start : start + _LATE_CHUNK])
            for start in range(0, len(lists), _LATE_CHUNK)
        ]
    return [chunk for _, chunk in sorted(chunks)]


def grow_scores(
    path: Path,
    block: Block,
    name: str,
    texts: Sequence[str],
    teacher: Teacher,
    *,
    scored: AbstractSet[int] = frozenset(),
    num_lists: int | None = None,
    progress: Progress = silent,
) -> None:
    """Extend a file by missing scores.

    Args:
        path: Score file; created if missing.
        block: Lists.
        name: Name of the teacher.
        texts: All texts of the block.
        teacher: Teacher.
        scored: Lists that already have its scores; always the same for one file.
        num_lists: Maximum number of lists; None for all.
        progress: Progress of lists scored.

    Raises:
        BackendError: The teacher failed.
    """
    chunks = chunks_of(block, name, scored)
    ends = _ends(block, chunks)
    present = path.stat().st_size // _BYTES if path.is_file() else 0
    done = int(np.searchsorted(ends, present, side="right"))
    with path.open("ab") as file, progress("lists", sum(map(len, chunks)), sum(map(len, chunks[:done]))) as advance:
        file.truncate(int(ends[done - 1]) * _BYTES if done else 0)
        count = sum(map(len, chunks[:done]))
        for chunk in chunks[done:]:
            if num_lists is not None and count >= num_lists:
                break
            asks = [
                (texts[block.query[one]], [texts[row] for row in block.candidate[block.slots(one)]]) for one in chunk
            ]
            scores = [score for row in teacher.score(asks).scores for score in row]
            file.write(np.asarray(scores, dtype=np.float16).tobytes())
            file.flush()
            count += len(chunk)
            advance(len(chunk))
        os.fsync(file.fileno())


def read_scores(
    path: Path, block: Block, name: str, scored: AbstractSet[int] = frozenset()
) -> dict[int, NDArray[np.float32]]:
    """Read the available scores by list number, FloatArray [num_candidates]; the file may be missing or growing."""
    if not path.is_file():
        return {}
    raw = path.read_bytes()
    values = np.frombuffer(raw[: len(raw) // _BYTES * _BYTES], dtype=np.float16).astype(np.float32)
    found: dict[int, NDArray[np.float32]] = {}
    position = 0
    for one in (one for chunk in chunks_of(block, name, scored) for one in chunk):
        slots = block.slots(one)
        end = position + slots.stop - slots.start
        if end > len(values):
            break
        found[one] = values[position:end]
        position = end
    return found


def _ends(block: Block, chunks: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    sizes = np.diff(block.start.astype(np.int64))
    return np.cumsum([int(sizes[list(chunk)].sum()) for chunk in chunks], dtype=np.int64)
