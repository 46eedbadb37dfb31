"""Commands `optimize` and `precompute`: work ahead of the first query."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from gliclass_rerank.cli.model_options import load_reranker, with_options
from gliclass_rerank.cli.output import progress
from gliclass_rerank.errors import ConfigError
from gliclass_rerank.settings import RerankerSettings

if TYPE_CHECKING:
    from gliclass_rerank.runtime.passage_cache import StatesDtype


@with_options(RerankerSettings)
def optimize(
    settings: RerankerSettings,
    prune_after: Annotated[
        int | None, typer.Option("--prune-after", min=1, help="Then remove exports unused for DAYS days.")
    ] = None,
) -> None:
    """Export a model for a CPU backend ahead of its first use."""
    from gliclass_rerank.runtime.graph_cache import default_cache_folder, prune_graphs

    if settings.backend == "torch":
        raise ConfigError("`backend` must be `onnx`, `openvino` or `auto`, got 'torch', which needs no export")
    reranker = load_reranker(settings)
    if reranker.backend == "torch":
        raise ConfigError(
            f"`backend` 'auto' is torch here, which needs no export: {reranker.runtime.reason}; "
            f"quicker here: {reranker.runtime.quicker or 'nothing'}"
        )
    typer.echo(f"exported for {reranker.backend} in {reranker.dtype} to {default_cache_folder()}")
    if prune_after is not None:
        removed = prune_graphs(default_cache_folder(), unused_days=prune_after)
        typer.echo(f"removed {removed} that were not used for {prune_after} days")


@with_options(RerankerSettings, but=("dtype",))
def precompute(
    settings: RerankerSettings,
    passages: Annotated[
        Path,
        typer.Option("--passages", help="File: .txt, a passage per line; .jsonl, `text` and perhaps `title`; or -."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must not exist.")],
    dtype: Annotated[
        str, typer.Option("--dtype", help="Of what is kept: float16, or int8, half the size.")
    ] = "float16",
) -> None:
    """Precompute the part of passages that no query changes."""
    from gliclass_rerank.learn.evaluation.passages import load_passages

    texts = [passage.text for passage in load_passages(passages)]
    reranker = load_reranker(replace(settings, dtype="float32"))
    with progress(len(texts), "passages") as update:
        # The cast is safe: an unknown dtype is a ConfigError.
        cache = reranker.precompute(texts, out, dtype=cast("StatesDtype", dtype), on_computed=update)
    size = sum(file.stat().st_size for file in out.iterdir())
    typer.echo(f"passages       {len(texts)}  ({cache.num_passages} distinct)")
    typer.echo(f"tokens         {cache.num_tokens}")
    typer.echo(f"bytes/passage  {size / cache.num_passages:.0f}")
    typer.echo(f"written        {out}")
