"""Packed lists: a block and the teachers' scores in 8 bits, one file per block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gliclass_rerank.errors import DataError
from gliclass_rerank.learn.data.lists.block import Block, block_arrays, load_arrays, load_block, save_arrays
from gliclass_rerank.learn.data.lists.kinds import KINDS
from gliclass_rerank.learn.data.lists.scores import read_scores
from gliclass_rerank.learn.data.lists.teachers import TEACHERS
from gliclass_rerank.learn.data.lists.vectors import read_vectors

_PREFIX: Final = "scores/"
_SCALE: Final = "scale/"
# 0 marks a missing score.
_LOWEST, _HIGHEST = 1, 255


@dataclass(frozen=True)
class Packed:
    """Lists with scores.

    Attributes:
        block: Lists.
        scores: UInt8Array [num_slots] by teacher.
        scales: Score of code 1, and step, by teacher.
    """

    block: Block
    scores: Mapping[str, NDArray[np.uint8]]
    scales: Mapping[str, tuple[float, float]]

    def scores_of(self, number: int) -> dict[str, NDArray[np.float32]]:
        """Scores of a list, FloatArray [num_candidates] by teacher."""
        slots = self.block.slots(number)
        found: dict[str, NDArray[np.float32]] = {}
        for name, codes in self.scores.items():
            if (codes[slots] >= _LOWEST).all():
                low, step = self.scales[name]
                found[name] = np.float32(low) + (codes[slots].astype(np.float32) - _LOWEST) * np.float32(step)
        return found

    def scored_by(self, teacher: str) -> frozenset[int]:
        """Numbers of the lists that a teacher has scored."""
        codes = self.scores.get(teacher)
        if codes is None:
            return frozenset()
        lowest = np.minimum.reduceat(codes, self.block.start[:-1].astype(np.intp))
        return frozenset(np.flatnonzero(lowest >= _LOWEST).tolist())


@dataclass(frozen=True)
class PackReport:
    """Summary of a packed file.

    Attributes:
        num_lists: Lists by kind.
        num_scored: Scored lists by teacher.
        num_bytes: File size.
    """

    num_lists: Mapping[str, int]
    num_scored: Mapping[str, int]
    num_bytes: int

    def told(self) -> str:
        """Format the report."""
        rows = [f"{sum(self.num_lists.values())} lists, {self.num_bytes} bytes"]
        rows += [f"  {name}: {count}" for part in (self.num_lists, self.num_scored) for name, count in part.items()]
        return "\n".join(rows)


def pack_block(work: Path, number: int, out: Path) -> PackReport:
    """Pack a block with all available scores, including those of the packed file that it started from.

    Args:
        work: Folder of blocks.
        number: Number of the block.
        out: Target `.npz`; written atomically.

    Returns:
        Summary of the file.

    Raises:
        DataError: The block is missing or damaged.
    """
    folder = work / f"block-{number:02}"
    before = load_packed(folder / "lists.npz")
    block = before.block
    arrays: dict[str, NDArray[Any]] = block_arrays(block)
    scored: dict[str, int] = {}
    for name, teacher in TEACHERS.items():
        known = before.scored_by(name)
        found = {one: before.scores_of(one)[name] for one in known}
        if teacher.width is None:
            found |= read_scores(folder / "scores" / f"{name}.f16", block, name, known)
        else:
            found |= _cosines(block, read_vectors(folder / "vectors" / f"{name}.f16", teacher.width))
        if found:
            scored[name] = len(found)
            arrays[_PREFIX + name], arrays[_SCALE + name] = _quantised(block, found)
    save_arrays(out, arrays)
    kinds = Counter(KINDS[kind].name for kind in block.kind.tolist())
    return PackReport(dict(kinds), scored, out.stat().st_size)


def load_packed(path: Path) -> Packed:
    """Read a packed file; a `DataError` if it is missing or damaged."""
    block, arrays = load_block(path), load_arrays(path)
    scores = {name.removeprefix(_PREFIX): codes for name, codes in arrays.items() if name.startswith(_PREFIX)}
    scales = {name: arrays.get(_SCALE + name, np.zeros(0)) for name in scores}
    for name, codes in scores.items():
        scale = scales[name]
        fits = codes.shape == block.candidate.shape and codes.dtype == np.uint8
        if not (fits and scale.shape == (2,) and scale.dtype.kind == "f" and bool(np.isfinite(scale).all())):
            raise DataError(f"{path}: the scores of {name[:40]!r} do not fit the lists")
    return Packed(block, scores, {name: (float(scale[0]), float(scale[1])) for name, scale in scales.items()})


def _cosines(block: Block, vectors: NDArray[np.float16]) -> dict[int, NDArray[np.float32]]:
    """Cosines of the lists whose texts all have a vector; zero rows are missing."""
    is_made = np.zeros(block.num_texts, dtype=bool)
    is_made[: len(vectors)] = np.any(vectors, axis=1)
    found: dict[int, NDArray[np.float32]] = {}
    for number in range(len(block)):
        rows = block.candidate[block.slots(number)]
        if is_made[block.query[number]] and is_made[rows].all():
            query = vectors[block.query[number]].astype(np.float32)
            found[number] = vectors[rows].astype(np.float32) @ query
    return found


def _quantised(block: Block, found: Mapping[int, NDArray[np.float32]]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    values = np.concatenate(list(found.values()))
    low = float(values.min())
    step = max((float(values.max()) - low) / (_HIGHEST - _LOWEST), 1e-6)
    codes = np.zeros(len(block.candidate), dtype=np.uint8)
    for number, scores in found.items():
        codes[block.slots(number)] = np.clip(np.rint((scores - low) / step) + _LOWEST, _LOWEST, _HIGHEST)
    return codes, np.array([low, step], dtype=np.float32)
