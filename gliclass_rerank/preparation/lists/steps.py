"""The long steps on a folder of blocks.

```
<work>/block-00/lists.npz                the lists (`block.Block`)
                vectors/<teacher>.f16    a row a text, growing (`vectors`)
                scores/<teacher>.f16     a number a candidate of the lists that want it, growing (`scores`)
```
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gliclass_rerank.errors import ConfigError
from gliclass_rerank.mining.progress import Progress, silent
from gliclass_rerank.preparation.lists.asking import open_corpus
from gliclass_rerank.preparation.lists.block import Block, block_arrays, load_block, save_arrays
from gliclass_rerank.preparation.lists.forms import TextRef
from gliclass_rerank.preparation.lists.join import block_texts
from gliclass_rerank.preparation.lists.kinds import NUM_BLOCKS
from gliclass_rerank.preparation.lists.mine_block import mine_block
from gliclass_rerank.preparation.lists.scores import grow_scores
from gliclass_rerank.preparation.lists.teachers import Teacher, teacher_named
from gliclass_rerank.preparation.lists.vectors import embedded, grow_vectors, read_vectors, width_of
from gliclass_rerank.runtimes.interfaces import TextEncoder
from gliclass_rerank.runtimes.load import load_encoder, load_teacher
from gliclass_rerank.whole_file import whole_file


def block_folder(work: Path, block: int) -> Path:
    """Where a block is.

    Args:
        work: The folder of blocks.
        block: Number of the block.

    Returns:
        Its folder.

    Raises:
        ConfigError: There is no block of this number.
    """
    if not 0 <= block < NUM_BLOCKS:
        raise ConfigError(f"a block's number must be from 0 to {NUM_BLOCKS - 1}, got {block}")
    return work / f"block-{block:02}"


def mine_step(
    data: Path, work: Path, block: int, model: str, name: str, *, threads: int, progress: Progress = silent
) -> None:
    """Make a block's lists, and keep the vectors that were made for it.

    Args:
        data: The data folder.
        work: The folder of blocks.
        block: Number of the block.
        model: Folder of an encoder.
        name: Which teacher it is.
        threads: Threads of a forward pass.
        progress: Told how far it is.
    """
    folder = block_folder(work, block)
    if (folder / "lists.npz").is_file():
        return
    teacher = _encoder(name, threads)
    scratch = folder / f"scratch-{name}"
    for needed in (folder / "vectors", scratch):
        needed.mkdir(parents=True, exist_ok=True)
    encoder = load_encoder(model, teacher.options)
    made, vectors = mine_block(open_corpus(data), block, encoder, scratch, progress=progress)
    _keep_vectors(folder / "vectors" / f"{name}.f16", block_texts(data, made), made, vectors, encoder)
    save_arrays(folder / "lists.npz", block_arrays(made))
    shutil.rmtree(scratch)


def _keep_vectors(
    path: Path, texts: Sequence[str], made: Block, known: Mapping[TextRef, NDArray[np.float16]], encoder: TextEncoder
) -> None:
    """Write the vectors of a block's texts; those that mining had no use for are made."""
    refs = made.refs()
    vectors = np.zeros((len(refs), width_of(encoder)), dtype=np.float16)
    for row, ref in enumerate(refs):
        if ref in known:
            vectors[row] = known[ref]
    left = np.array([row for row, ref in enumerate(refs) if ref not in known], dtype=np.intp)
    vectors[left] = embedded([texts[row] for row in left.tolist()], made.text_is_query[left].astype(bool), encoder)
    with whole_file(path) as staging:
        staging.write_bytes(vectors.tobytes())


def encode_step(
    data: Path,
    work: Path,
    block: int,
    model: str,
    name: str,
    *,
    threads: int,
    num_texts: int | None = None,
    progress: Progress = silent,
) -> None:
    """Embed a block's texts.

    Args:
        data: The data folder.
        work: The folder of blocks.
        block: Number of the block.
        model: Folder of an encoder.
        name: Which teacher it is.
        threads: Threads of a forward pass.
        num_texts: Embed no more of the block's texts, which are in the order of the lists; None for all.
        progress: Told how far it is.
    """
    teacher = _encoder(name, threads)
    folder = block_folder(work, block)
    made = load_block(folder / "lists.npz")
    target = folder / "vectors" / f"{name}.f16"
    if len(read_vectors(target, teacher.width or 0)) == made.num_texts:
        return
    encoder = load_encoder(model, teacher.options)
    grow_vectors(target, block_texts(data, made), made.text_is_query, encoder, num_texts=num_texts, progress=progress)


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
        data: The data folder.
        work: The folder of blocks.
        block: Number of the block.
        model: Folder of the teacher.
        name: Which teacher it is.
        threads: Threads of a forward pass.
        num_lists: Score no more; None for all that want the teacher.
        progress: Told how far it is.
    """
    teacher = teacher_named(name, threads=threads)
    folder = block_folder(work, block)
    made: Block = load_block(folder / "lists.npz")
    (folder / "scores").mkdir(exist_ok=True)
    grow_scores(
        folder / "scores" / f"{name}.f16",
        made,
        name,
        block_texts(data, made),
        load_teacher(model, teacher.options),
        num_lists=num_lists,
        progress=progress,
    )


def _encoder(name: str, threads: int) -> Teacher:
    teacher = teacher_named(name, threads=threads)
    if teacher.width is None:
        raise ConfigError(f"the teacher {name!r} makes no vectors")
    return teacher
