"""Commands `examples ...`: the judged examples of a store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gliclass_rerank.checks import named
from gliclass_rerank.cli.conditions import Where, condition
from gliclass_rerank.cli.output import print_json, print_row, progress
from gliclass_rerank.cli.sections import Sections
from gliclass_rerank.errors import DataError, InputError, shown

if TYPE_CHECKING:
    from gliclass_rerank.examples import ExampleStore, Found, Stored
    from gliclass_rerank.types import Example

_Store = Annotated[Path, typer.Option("--store", help="File of the store, as in `--example-store`.")]
_Json = Annotated[bool, typer.Option("--json", help="Print a JSON object for each example.")]

examples = typer.Typer(
    cls=Sections,
    invoke_without_command=True,
    help="Add, list, delete and search judged examples.",
    rich_markup_mode=None,
)


@examples.callback()
def _root(ctx: typer.Context) -> None:
    """Add, list, delete and search judged examples."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


@examples.command("add")
def add(
    store: _Store,
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Files (.jsonl) with `text`, `true_labels`, `false_labels`, and perhaps `id`, `metadata`; or -."
        ),
    ],
) -> None:
    """Add examples, or new judgements of their texts."""
    new = [example for path in files for example in _read(path)]
    with _opened(store, read_only=False, may_be_new=True) as opened, progress(len(new), "examples") as update:
        before = len(opened)
        for example, name, metadata in new:
            opened.add_judgements(example, id=name, metadata=metadata)
            update(1)
        typer.echo(f"read      {len(new)}")
        typer.echo(f"added     {len(opened) - before}")
        typer.echo(f"in store  {len(opened)}")


@examples.command("list")
def list_examples(
    store: _Store,
    where: Where = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="List the first N only.")] = None,
    as_json: _Json = False,
) -> None:
    """List examples in the order of writing."""
    is_wanted = condition(where)
    with _opened(store) as opened:
        for each in islice((each for each in opened if is_wanted is None or is_wanted(each.metadata)), limit):
            _print(each, "", {}, as_json=as_json)


@examples.command("delete")
def delete(store: _Store, ids: Annotated[list[str], typer.Argument(help="Ids, as `list` prints them.")]) -> None:
    """Delete examples by id: all of them, or none if one is unknown."""
    with _opened(store, read_only=False) as opened:
        missing = [name for name in ids if name not in opened]
        if missing:
            raise InputError(f"the store has no example with the id {shown(missing[0])}; nothing was deleted")
        typer.echo(f"deleted   {opened.delete(ids)}")
        typer.echo(f"in store  {len(opened)}")


@examples.command("search")
def search(
    store: _Store,
    text: Annotated[str, typer.Argument(help="Query, or text to classify.")],
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="Print the K most similar.")] = 3,
    min_similarity: Annotated[
        float, typer.Option("--min-similarity", min=-1, max=1, help="Minimum cosine of an example.")
    ] = 0.5,
    where: Where = None,
    as_json: _Json = False,
) -> None:
    """Find the examples most similar to a text."""
    is_wanted = condition(where)
    with _opened(store) as opened:
        for each in opened.search(text, top_k, min_similarity, where=is_wanted):
            _print(each, f"{each.similarity:.4f}  ", {"similarity": each.similarity}, as_json=as_json)


def _read(path: Path) -> Iterator[tuple[Example, str | None, Any]]:  # Any: JSON
    """Examples of a file with their ids and metadata."""
    from gliclass_rerank.learn.evaluation.files import read_jsonl
    from gliclass_rerank.types import Example

    for record in read_jsonl(path):
        fields = dict(record.fields)
        name = record.string("id") if "id" in fields else None
        metadata = fields.pop("metadata", None)
        fields.pop("id", None)
        try:
            yield Example.of(fields), name, metadata
        except InputError as error:
            raise DataError(f"{record.place}: {error}") from error


@contextmanager
def _opened(path: Path, *, read_only: bool = True, may_be_new: bool = False) -> Iterator[ExampleStore]:
    if not may_be_new and not path.expanduser().is_file():
        raise DataError(f"{named(path)}: there is no such store")
    from gliclass_rerank.examples import ExampleStore

    with ExampleStore(path, read_only=read_only) as store:
        yield store


def _print(each: Stored | Found, start: str, ours: Mapping[str, Any], *, as_json: bool) -> None:  # Any: JSON
    if as_json:
        print_json({"id": each.id, **ours, **each.example.to_dict(), "metadata": each.metadata})
    else:
        print_row(f"{start}{each.id}  ", each.example.text)
