"""Parquet rows of a batch job: as JSONL's, in the types that the columns have."""

import datetime as dt
import math

import pytest
from test_batch import COLUMNS, lines_of, read, row

from gliclass_rerank.batch.arrow import check_columns
from gliclass_rerank.cli.app import main
from gliclass_rerank.errors import DataError

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

DAY = dt.date(2026, 11, 30)


@pytest.fixture
def batch(tmp_path, tiny_folders):
    """Runs the command on a table; the exit code and the table that it wrote."""

    def run(table, *options, row_group_size=None):
        source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
        parquet.write_table(table, source, row_group_size=row_group_size)
        target.unlink(missing_ok=True)
        files = ["--input", str(source), "--output", str(target)]
        code = main(["batch", *files, "--model", str(tiny_folders["bert"]), "--backend", "torch", *options])
        return code, parquet.read_table(target) if target.exists() else None

    return run


def test_rows_are_those_of_jsonl_whatever_the_parts(batch, tmp_path, tiny_folders):
    rows = [row(number) for number in range(30)]
    table = pyarrow.Table.from_pylist(rows)
    lines = tmp_path / "in.jsonl"
    lines.write_text(lines_of(rows))
    of_jsonl = ["--input", str(lines), "--output", str(tmp_path / "out.jsonl")]
    assert main(["batch", *of_jsonl, "--model", str(tiny_folders["bert"]), "--backend", "torch"]) == 0
    expected = read(tmp_path / "out.jsonl")

    for options, row_group_size in [((), None), (("--part-bytes", "500"), 7)]:
        code, found = batch(table, *options, row_group_size=row_group_size)

        assert code == 0
        assert found.column_names == ["id", "query", *[name for name in expected[0] if name in COLUMNS]]
        for ours, theirs in zip(found.to_pylist(), expected, strict=True):
            hits = [{name: hit[name] for name in ("index", "score", "logit", "text")} for hit in ours["hits"]]
            assert hits == [{name: hit[name] for name in hits[0]} for hit in theirs["hits"]]
            assert [ours[name] for name in ("id", "num_tokens", "truncated", "error")] == [
                theirs[name] for name in ("id", "num_tokens", "truncated", "error")
            ]


def test_columns_and_fields_of_documents_keep_their_types(batch):
    table = pyarrow.table(
        {
            "query": pyarrow.array(["chain", None], pyarrow.large_string()).dictionary_encode(),
            "passages": [
                [{"text": "oil", "day": DAY, "score": 1}, {"text": "wax", "day": None, "score": 2}],
                [{"text": "x", "day": DAY, "score": 3}],
            ],
            "day": [DAY, DAY],
            "hits": [b"mine", b"too"],
        }
    )

    code, found = batch(table, "--top-k", "1", "--no-texts")

    assert code == 1
    assert found.schema.field("day").type == pyarrow.date32()
    assert found.column("input_hits").to_pylist() == [b"mine", b"too"]
    (hit,) = found.column("hits")[0].as_py()
    assert sorted(hit) == ["chunk", "day", "index", "input_score", "judged", "logit", "score"]
    assert hit["day"] == (DAY if hit["index"] == 0 else None)
    assert math.isclose(hit["score"], 1 / (1 + math.exp(-hit["logit"])), abs_tol=1e-6)
    assert found.column("hits")[1].as_py() is None
    assert found.column("error").to_pylist() == [None, "`query` must be a string, got None"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"query": ["a"]}, "the table needs the columns `query` and `passages`, it lacks `passages`"),
        ({"query": [1], "passages": [["a"]]}, "`query` must be a column of strings, got int64"),
        ({"query": ["a"], "passages": ["b"]}, "`passages` must be a column of lists, got string"),
        ({"query": ["a"], "passages": [[{"body": "b"}]]}, "`passages` must hold strings or structs with `text`, got"),
    ],
)
def test_a_table_without_the_columns_is_refused_at_once(columns, message):
    with pytest.raises(DataError, match=message):
        check_columns(pyarrow.table(columns).schema, "the table")


def test_files_of_a_folder_must_have_one_schema_and_be_parquet(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    parquet.write_table(pyarrow.table({"query": ["a"], "passages": [["b"]]}), folder / "a.parquet")
    parquet.write_table(pyarrow.table({"query": ["a"], "passages": [["b"]], "id": [1]}), folder / "b.parquet")
    arguments = ["batch", "--input", str(folder), "--output", str(tmp_path / "out")]

    assert main(arguments) == 1
    assert "has another schema than" in capsys.readouterr().err

    (folder / "b.parquet").write_bytes(b"no parquet")
    assert main(arguments) == 1
    assert "b.parquet: cannot be read: " in capsys.readouterr().err
