"""Long-running steps on a folder of blocks.

```
<work>/block-00/lists.npz                lists (`block.Block`), or a packed file, whose scores are kept
                vectors/<teacher>.f16    one row per text, growing (`vectors`)
                scores/<teacher>.f16     one number per candidate of lists that need it, growing (`scores`)
```
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gliclass_rerank.errors import ConfigError
from gliclass_rerank.files.atomic_write import atomic_file
from gliclass_rerank.learn.data.lists.asking import open_corpus
from gliclass_rerank.learn.data.lists.block import Block, block_arrays, load_block, save_arrays
from gliclass_rerank.learn.data.lists.forms import TextRef
from gliclass_rerank.learn.data.lists.join import block_texts
from gliclass_rerank.learn.data.lists.kinds import KINDS, NUM_BLOCKS, kinds_named
from gliclass_rerank.learn.data.lists.mine_block import mine_block
from gliclass_rerank.learn.data.lists.mixtures import MIXTURES
from gliclass_rerank.learn.data.lists.packed import Packed, load_packed
from gliclass_rerank.learn.data.lists.scores import grow_scores
from gliclass_rerank.learn.data.lists.teachers import Teacher, teacher_named
from gliclass_rerank.learn.data.lists.vectors import grow_vectors, read_vectors, width_of
from gliclass_rerank.learn.data.progress import Progress, silent
from gliclass_rerank.text_models.interfaces import TextEncoder
from gliclass_rerank.text_models.load import load_encoder, load_teacher


def block_folder(work: Path, block: int) -> Path:
    """Folder of a block; an unknown number is a `ConfigError`."""
    if not 0 <= block < NUM_BLOCKS:
        raise ConfigError(f"a block's number must be from 0 to {NUM_BLOCKS - 1}, got {block}")
    return work / f"block-{block:02}"


def mine_step(
    data: Path, work: Path, block: int, model: str, name: str, *, threads: int, progress: Progress = silent
) -> None:
    """Mine a block's lists, keeping the vectors made for it.

    Args:
        data: Data folder.
        work: Folder of blocks.
        block: Number of the block.
        model: Encoder folder.
        name: Name of the teacher.
        threads: Threads per forward pass.
        progress: Progress callback.
    """
    folder = block_folder(work, block)
    target = folder / "vectors" / f"{name}.f16"
    teacher = _encoder(name, threads)
    if (folder / "lists.npz").is_file() and (target.is_file() or _is_scored(folder, name)):
        return
    scratch = folder / f"scratch-{name}"
    for needed in (folder / "vectors", scratch):
        needed.mkdir(parents=True, exist_ok=True)
    encoder = load_encoder(model, teacher.options)
    known = scratch / "known.f16"
    if not (folder / "lists.npz").is_file():
        made, vectors = mine_block(open_corpus(data), block, encoder, scratch, progress=progress)
        _write_known(known, made, vectors, width_of(encoder))
        save_arrays(folder / "lists.npz", block_arrays(made))
    _complete(target, data, load_block(folder / "lists.npz"), known, encoder, progress)
    shutil.rmtree(scratch)


def _write_known(path: Path, made: Block, known: Mapping[TextRef, NDArray[np.float16]], width: int) -> None:
    """Write mining's vectors in the order of the lists' texts, zeros for missing ones."""
    nothing = np.zeros(width, dtype=np.float16)
    with atomic_file(path) as staging, staging.open("wb") as file:
        for ref in made.refs():
            file.write(known.get(ref, nothing).tobytes())


def _complete(target: Path, data: Path, made: Block, known: Path, encoder: TextEncoder, progress: Progress) -> None:
    """Write the vectors of all texts: mining's, and newly embedded missing ones."""
    width = width_of(encoder)
    vectors = np.array(read_vectors(known, width)) if known.is_file() else np.zeros((made.num_texts, width), np.float16)
    left = np.flatnonzero(~vectors.any(axis=1))
    texts = block_texts(data, made)
    rest = known.with_name("rest.f16")
    grow_vectors(rest, [texts[row] for row in left.tolist()], made.text_is_query[left], encoder, progress=progress)
    vectors[left] = read_vectors(rest, width)
    with atomic_file(target) as staging:
        staging.write_bytes(vectors.tobytes())


def encode_step(
    data: Path,
    work: Path,
    block: int,
    model: str,
    name: str,
    *,
    threads: int,
    for_mixtures: bool = False,
    kinds: Collection[str] | None = None,
    num_texts: int | None = None,
    progress: Progress = silent,
) -> None:
    """Embed a block's texts.

    Args:
        data: Data folder.
        work: Folder of blocks.
        block: Number of the block.
        model: Encoder folder.
        name: Name of the teacher.
        threads: Threads per forward pass.
        for_mixtures: Embed only texts of lists whose mixture has this teacher; other rows stay zero. Fixed per block,
            unless the file is deleted.
        kinds: Embed only texts of these kinds of lists; None for all. Fixed per block likewise.
        num_texts: Maximum number of texts, in the order of the lists; None for all.
        progress: Progress callback.
    """
    teacher = _encoder(name, threads)
    folder = block_folder(work, block)
    before = load_packed(folder / "lists.npz")
    made = before.block
    target = folder / "vectors" / f"{name}.f16"
    if len(read_vectors(target, teacher.width or 0)) == made.num_texts or _is_scored(folder, name):
        return
    target.parent.mkdir(exist_ok=True)
    encoder = load_encoder(model, teacher.options)
    grow_vectors(
        target,
        block_texts(data, made),
        made.text_is_query,
        encoder,
        wanted=_wanted(before, name, _kind_numbers(name, kinds, for_mixtures=for_mixtures)),
        num_texts=num_texts,
        progress=progress,
    )


def score_step(
    data: Path,
    work: Path,
    block: int,
    model: str,
    name: str,
    *,
    threads: int,
    num_lists: int | None = None,
    progress: Progress = silent,
) -> None:
    """Score a block's lists.

    Args:
        data: Data folder.
        work: Folder of blocks.
        block: Number of the block.
        model: Teacher folder.
        name: Name of the teacher.
        threads: Threads per forward pass.
        num_lists: Maximum number of lists; None for all that need the teacher.
        progress: Progress callback.
    """
    teacher = teacher_named(name, threads=threads)
    folder = block_folder(work, block)
    before = load_packed(folder / "lists.npz")
    made = before.block
    (folder / "scores").mkdir(exist_ok=True)
    grow_scores(
        folder / "scores" / f"{name}.f16",
        made,
        name,
        block_texts(data, made),
        load_teacher(model, teacher.options),
        scored=before.scored_by(name),
        num_lists=num_lists,
        progress=progress,
    )


def _is_scored(folder: Path, name: str) -> bool:
    """Test if the lists came with all scores of this teacher."""
    before = load_packed(folder / "lists.npz")
    return len(before.scored_by(name)) == len(before.block)


def _kind_numbers(name: str, kinds: Collection[str] | None, *, for_mixtures: bool) -> frozenset[int]:
    """Positions in `KINDS` of the kinds to embed."""
    wanted = kinds_named(kinds)
    return frozenset(
        number
        for number, kind in enumerate(KINDS)
        if kind.name in wanted and (not for_mixtures or name in MIXTURES[kind.target].weights)
    )


def _wanted(before: Packed, name: str, kinds: AbstractSet[int]) -> NDArray[np.bool_]:
    """Texts of lists of these kinds without this teacher's scores."""
    block, scored = before.block, before.scored_by(name)
    wanted = np.zeros(block.num_texts, dtype=bool)
    for number in range(len(block)):
        if number not in scored and int(block.kind[number]) in kinds:
            wanted[block.query[number]] = True
            wanted[block.candidate[block.slots(number)]] = True
    return wanted


def _encoder(name: str, threads: int) -> Teacher:
    teacher = teacher_named(name, threads=threads)
    if teacher.width is None:
        raise ConfigError(f"the teacher {name!r} makes no vectors")
    return teacher
