"""Commands of the steps; each resumes after a kill, and does nothing once finished.

python -m gliclass_rerank.learn.data.lists STEP ...
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gliclass_rerank.errors import GLiClassRerankError
from gliclass_rerank.learn.data.progress import terminal

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)

_Data = Annotated[Path, typer.Option("--data", help="Folder with rerank/, queries/ and classify/.")]
_Work = Annotated[Path, typer.Option("--work", help="Folder of blocks; created if missing.")]
_Block = Annotated[int, typer.Option("--block", min=0, help="Number of the block.")]
_Model = Annotated[str, typer.Option("--model", help="Folder of the teacher.")]
_Name = Annotated[str, typer.Option("--teacher", help="Name of the teacher.")]
_Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads of a forward pass.")]


@app.command()
def mine(data: _Data, work: _Work, block: _Block, model: _Model, teacher: _Name, threads: _Threads = 1) -> None:
    """Mine the lists of a block; the teacher, an encoder, finds candidates beside BM25."""
    from gliclass_rerank.learn.data.lists.steps import mine_step

    mine_step(data, work, block, model, teacher, threads=threads, progress=terminal)


@app.command()
def encode(
    data: _Data,
    work: _Work,
    block: _Block,
    model: _Model,
    teacher: _Name,
    threads: _Threads = 1,
    texts: Annotated[int | None, typer.Option("--texts", min=1, help="First N only.  [default: all]")] = None,
    for_mixtures: Annotated[
        bool, typer.Option("--for-mixtures", help="Only texts of lists whose mixture has this teacher.")
    ] = False,
    kind: Annotated[list[str] | None, typer.Option("--kind", help="Only texts of such lists. Repeatable.")] = None,
) -> None:
    """Embed the texts of a block."""
    from gliclass_rerank.learn.data.lists.steps import encode_step

    encode_step(
        data,
        work,
        block,
        model,
        teacher,
        threads=threads,
        for_mixtures=for_mixtures,
        kinds=kind,
        num_texts=texts,
        progress=terminal,
    )


@app.command()
def score(
    data: _Data,
    work: _Work,
    block: _Block,
    model: _Model,
    teacher: _Name,
    threads: _Threads = 1,
    lists: Annotated[int | None, typer.Option("--lists", min=1, help="First N only.  [default: all]")] = None,
) -> None:
    """Score the lists of a block that need this teacher."""
    from gliclass_rerank.learn.data.lists.steps import score_step

    score_step(data, work, block, model, teacher, threads=threads, num_lists=lists, progress=terminal)


@app.command()
def pack(work: _Work, block: _Block, out: Annotated[Path, typer.Option("--out", help="File to write (.npz).")]) -> None:
    """Write a block's lists and the scores so far as one small file."""
    from gliclass_rerank.learn.data.lists.packed import pack_block

    typer.echo(pack_block(work, block, out).told())


@app.command()
def join(
    data: _Data,
    packed: Annotated[list[Path], typer.Argument(help="Packed files.")],
    out: Annotated[Path, typer.Option("--out", help="File of records to write (.jsonl).")],
    kind: Annotated[list[str] | None, typer.Option("--kind", help="Only lists of this kind. Repeatable.")] = None,
    mixed_only: Annotated[bool, typer.Option("--mixed-only", help="Only lists that have a mixture.")] = False,
) -> None:
    """Write packed lists as ranking records."""
    from gliclass_rerank.learn.data.lists.join import join_files

    typer.echo(f"{join_files(data, packed, out, kinds=kind, mixed_only=mixed_only)} records")


@app.command()
def texts(
    data: _Data,
    work: _Work,
    block: _Block,
    teacher: Annotated[list[str], typer.Option("--teacher", help="Teacher of the vectors. Repeatable.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must not exist.")],
) -> None:
    """Write a block's texts with the vectors of all these teachers."""
    from gliclass_rerank.learn.data.lists.join import write_texts

    typer.echo(f"{write_texts(data, work, block, teacher, out)} texts")


@app.command()
def dev(
    data: _Data,
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must not exist.")],
    queries: Annotated[int, typer.Option("--queries", min=1, help="Queries per set.")] = 50,
    candidates: Annotated[int, typer.Option("--candidates", min=2, help="Candidates per query.")] = 20,
) -> None:
    """Write held-out queries as collections, a folder each."""
    from gliclass_rerank.learn.data.lists.dev import write_dev_sets

    for name, count in write_dev_sets(data, out, num_queries=queries, num_candidates=candidates).items():
        typer.echo(f"{name}\t{count} queries")


def main() -> None:
    """Run a step; an error is one line with exit code 2."""
    try:
        app()
    except (GLiClassRerankError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
