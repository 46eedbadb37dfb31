"""Arrow tables of rows: the columns that are read, and those of the answers."""

from __future__ import annotations

from typing import Any, Final

from gliclass_rerank._imports import require
from gliclass_rerank.batch.rows import RowRanker, free_name
from gliclass_rerank.errors import DataError, listed

_COLUMNS: Final = ("query", "passages")
_OF_HIT: Final = ("index", "score", "logit", "text", "chunk", "judged")


def ranked_table(ranker: RowRanker, table: Any) -> Any:  # Any: Arrow is untyped
    """Rank the rows of a table.

    Args:
        ranker: Ranker.
        table: `query`: strings; `passages`: lists of strings, or of structs with `text` and perhaps `title`. Other
            columns are kept.

    Returns:
        Table with a row for each, in order: all columns but `passages`, and those of the answers. An input's column
        whose name an answer's has becomes `input_NAME`.

    Raises:
        DataError: A column is missing or of another type.
    """
    pyarrow = require("pyarrow", extra="batch")
    check_columns(table.schema, "the table")
    rows = table.select(_COLUMNS).to_pylist()
    answers = ranker.answers(rows)
    types = _types(ranker, table.schema.field("passages").type.value_type)
    result = table.drop_columns(["passages"])
    result = result.rename_columns([free_name(name, ranker.columns) for name in result.column_names])
    for name in ranker.columns:
        result = result.append_column(name, pyarrow.array([answer[name] for answer in answers], types[name]))
    return result


def check_columns(schema: Any, name: str) -> None:  # Any: as above
    """Check the columns that are read.

    Args:
        schema: Schema of a table.
        name: Its name, for the message.

    Raises:
        DataError: A column is missing or of another type.
    """
    types = require("pyarrow", extra="batch").types
    if missing := set(_COLUMNS) - set(schema.names):
        raise DataError(f"{name} needs the columns `query` and `passages`, it lacks {listed(missing)}")
    query, passages = (schema.field(column).type for column in _COLUMNS)
    if types.is_dictionary(query):
        query = query.value_type
    if not _is_text(query):
        raise DataError(f"{name}: `query` must be a column of strings, got {query}")
    if not _is_list(passages):
        raise DataError(f"{name}: `passages` must be a column of lists, got {passages}")
    item = passages.value_type
    if not _is_text(item) and not (types.is_struct(item) and item.get_field_index("text") >= 0):
        raise DataError(f"{name}: `passages` must hold strings or structs with `text`, got {item}")


def _is_text(kind: Any) -> bool:
    types = require("pyarrow", extra="batch").types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_list(kind: Any) -> bool:
    types = require("pyarrow", extra="batch").types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _types(ranker: RowRanker, passage: Any) -> dict[str, Any]:
    """Types of the answers' columns for passages of a type."""
    arrow = require("pyarrow", extra="batch")
    cut = arrow.struct({"index": arrow.int32(), "num_tokens": arrow.int32(), "num_lost": arrow.int32()})
    return {
        "hits": arrow.list_(_hit_type(ranker, passage)),
        "ranking_id": arrow.string(),
        "answerable": arrow.float64(),
        "num_tokens": arrow.int64(),
        "truncated_query": cut,
        "truncated": arrow.list_(cut),
        "repaired": arrow.list_(arrow.int32()),
        "warnings": arrow.list_(arrow.string()),
        "error": arrow.string(),
    }


def _hit_type(ranker: RowRanker, passage: Any) -> Any:
    arrow = require("pyarrow", extra="batch")
    number, text = arrow.float64(), arrow.string()
    own = dict(zip(_OF_HIT, (arrow.int32(), number, number, text, arrow.list_(arrow.int32()), text), strict=True))
    fields = list(passage) if arrow.types.is_struct(passage) else []
    others = {free_name(field.name, own): field.type for field in fields if field.name != "text"}
    if not ranker.has_texts:
        del own["text"]
    return arrow.struct({**own, **others})
