"""Options of the commands, made of the fields of settings: every command that loads a model takes all of them."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import Field, fields
from functools import update_wrapper
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, Final, ParamSpec, TypeVar

import typer

from gliclass_rerank.cli.notes import library_notes
from gliclass_rerank.settings import RerankerSettings

if TYPE_CHECKING:
    from gliclass_rerank import Reranker

_Parameters = ParamSpec("_Parameters")
_Settings = TypeVar("_Settings")

# Of an annotation's first part; what is none of these is text that the library reads.
_TYPES: Final[dict[str, Any]] = {"int": int, "float": float, "bool": bool, "tuple[str,": list[str]}


def with_options(
    kind: type[_Settings], *, but: tuple[str, ...] = ()
) -> Callable[[Callable[Concatenate[_Settings, _Parameters], None]], Callable[..., None]]:
    """Make a command of a function whose first parameter holds settings.

    Args:
        kind: Dataclass with a docstring a field.
        but: Fields that the command has no option for.

    Returns:
        A decorator; the options come after the function's own.
    """

    def decorated(function: Callable[Concatenate[_Settings, _Parameters], None]) -> Callable[..., None]:
        taken = [each for each in fields(kind) if each.name not in but]  # type: ignore[arg-type] # a dataclass

        def command(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> None:
            given = {each.name: kwargs.pop(each.name) for each in taken}
            values = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
            function(kind(**values), *args, **kwargs)

        update_wrapper(command, function)
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        helps = dict(_docstrings(kind))
        parameters = [*own, *(_option(each, _shortened(helps.get(each.name, ""))) for each in taken)]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return decorated


def load_reranker(settings: RerankerSettings) -> Reranker:
    """Load the reranker that a command's options describe."""
    from gliclass_rerank import Reranker

    with library_notes():
        return Reranker(**settings.to_dict())


def _option(field: Field[Any], text: str) -> inspect.Parameter:  # Any: of any type
    kind = _TYPES.get(str(field.type).partition(" ")[0], str)
    plain = field.name.replace("_", "-")
    name = f"--{plain}/--no-{plain}" if kind is bool else f"--{plain}"
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=field.default,
        annotation=Annotated[kind if field.default is not None else kind | None, typer.Option(name, help=text)],
    )


def _docstrings(settings: type) -> Iterator[tuple[str, str]]:
    """The fields' docstrings, which Python does not keep; none where the sources are not installed."""
    for kind in settings.__mro__[-2::-1]:
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
        except (OSError, TypeError):
            continue
        assert isinstance(tree, ast.ClassDef), "a class's source"
        for field, text in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                yield field.target.id, ast.literal_eval(text.value)


def _shortened(docstring: str) -> str:
    """The first clause, without marks of code."""
    plain = " ".join(docstring.replace("`", "").replace('"', "").split())
    return plain and plain.partition("; ")[0].partition(". ")[0].rstrip(".") + "."
