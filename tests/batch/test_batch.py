"""The command `batch`: a row out for a row in, whatever is in the input and however often the job is killed."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from tiny_checkpoints import WORDS

from gliclass_rerank import Reranker
from gliclass_rerank.batch.job import Job
from gliclass_rerank.batch.jsonl import JsonlFormat
from gliclass_rerank.batch.parts import Count
from gliclass_rerank.cli.app import main
from gliclass_rerank.learn.evaluation import files

COLUMNS = ["answerable", "error", "hits", "num_tokens", "repaired", "truncated", "truncated_query", "warnings"]


def row(number, **fields):
    """A row of 0 to 6 passages of 1 to 40 words."""
    passages = [
        " ".join((WORDS * 2)[start : start + 1 + (7 * start + 11 * number) % 40]) for start in range(number % 7)
    ]
    return {"id": number, "query": " ".join(WORDS[number % 30 : number % 30 + 3]), "passages": passages, **fields}


def lines_of(rows):
    return "".join(each if isinstance(each, str) else json.dumps(each) + "\n" for each in rows)


def read(path):
    return list(map(json.loads, path.read_text().splitlines()))


@pytest.fixture
def batch(tmp_path, tiny_folders):
    """Runs the command on rows; the exit code and the rows that it wrote."""

    def run(rows, *options, model="bert", name="in.jsonl"):
        source, target = tmp_path / name, tmp_path / "out.jsonl"
        source.write_text(lines_of(rows))
        target.unlink(missing_ok=True)
        files = ["--input", str(source), "--output", str(target)]
        code = main(["batch", *files, "--model", str(tiny_folders[model]), "--backend", "torch", *options])
        return code, read(target) if target.exists() else None

    return run


def test_each_row_gets_what_rank_says_beside_its_own_columns_in_order(batch, tiny_folders):
    rows = [row(number, tag=f"t{number}") for number in range(40)]

    code, found = batch(rows, "--part-bytes", "3000")

    assert code == 0
    reranker = Reranker(tiny_folders["bert"], device="cpu")
    for given, answer in zip(rows, found, strict=True):
        assert sorted(answer) == sorted(["id", "query", "tag", *COLUMNS])
        assert [answer[name] for name in ("id", "query", "tag")] == [given["id"], given["query"], given["tag"]]
        assert answer["hits"] == reranker.rank(given["query"], given["passages"]).to_list()
        assert answer["error"] is None


def test_a_bad_row_gets_an_error_and_the_others_go_on(batch, capsys):
    bad = [
        "not json\n",
        "[1]\n",
        {"query": 5, "id": 2},
        {"query": " ", "passages": []},
        {"query": "chain", "passages": "oil"},
        {"query": "chain", "passages": ["oil", 7]},
        {"query": "chain", "passages": [{"title": "no text"}]},
    ]

    code, found = batch([row(1), "\n", *bad, row(2)], name="bad.jsonl")

    assert code == 1
    assert [answer["error"] for answer in found] == [
        None,
        "bad.jsonl:3: not JSON: Expecting value at column 1",
        "bad.jsonl:4: must be a JSON object, got [1]",
        "`query` must be a string, got 5",
        "`query` must not be blank, got ' '",
        "`passages` must be a list, got 'oil'",
        "`passages[1]` must be a string or an object, got 7",
        "`passages[0]`: `text` must be a string, got None",
        None,
    ]
    assert found[3] == {"query": 5, "id": 2, **dict.fromkeys(COLUMNS), "error": found[3]["error"]}
    assert "7 of them could not be ranked" in capsys.readouterr().err


def test_a_row_that_the_model_refuses_spoils_no_other(batch):
    long = " ".join(WORDS * 6)

    code, found = batch([row(5), {"query": long, "passages": ["oil"]}, row(6)], "--long-query", "error")

    assert code == 1
    assert [answer["error"] is None for answer in found] == [True, False, True]
    assert len(found[0]["hits"]) == 5


def test_a_line_that_is_too_long_or_no_unicode_is_a_row_with_an_error(tmp_path, tiny_folders, monkeypatch):
    monkeypatch.setattr("gliclass_rerank.batch.jsonl.MAX_LINE_BYTES", 1 << 16)
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b'{"query": "\xff"}\n' + b"x" * 200_000 + b"\n" + json.dumps(row(2)).encode())

    code = main(["batch", "--input", str(source), "--output", str(target), "--model", str(tiny_folders["bert"])])

    first, second, third = read(target)
    assert code == 1
    assert first["error"] == "in.jsonl:1: not UTF-8 at byte 12 of the line"
    assert second["error"].startswith("in.jsonl:2: a line may have ")
    assert third["error"] is None


def test_documents_keep_their_fields_and_texts_are_left_out_on_request(batch):
    passages = ["oil", {"id": "p1", "title": "Chain", "text": "slips", "score": 3}]

    code, found = batch([{"query": "chain", "passages": passages, "hits": "mine"}], "--no-texts", "--top-k", "2")

    assert code == 0
    (answer,) = found
    assert answer["input_hits"] == "mine"
    by_index = {hit["index"]: hit for hit in answer["hits"]}
    assert sorted(by_index[0]) == ["index", "logit", "score"]
    assert {name: by_index[1][name] for name in ("id", "title", "input_score")} == {
        "id": "p1",
        "title": "Chain",
        "input_score": 3,
    }


def test_judged_examples_are_those_of_rank(batch, tmp_path, tiny_folders):
    path = tmp_path / "judged.db"
    reranker = Reranker(tiny_folders["bert"], device="cpu", example_store=path)
    reranker.feedback("chain", ["oil"], where={"tenant": "a"})
    reranker.feedback("chain", ["wax"], where={"tenant": "b"})

    code, found = batch(
        [{"query": "chain", "passages": ["wax", "oil"]}], "--example-store", str(path), "--where", "tenant=b"
    )

    assert code == 0
    assert [(hit["text"], hit.get("judged")) for hit in found[0]["hits"]] == [("wax", "relevant"), ("oil", None)]


def test_a_gzipped_file_and_a_folder_of_files_are_inputs(tmp_path, tiny_folders):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "b.jsonl").write_text(lines_of([row(3), row(4)]))
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(lines_of([row(1), row(2)]).encode()))
    (folder / "_SUCCESS").touch()
    target = tmp_path / "out"

    assert main(["batch", "--input", str(folder), "--output", str(target), "--model", str(tiny_folders["bert"])]) == 0

    parts = sorted(target.glob("part-*"))
    assert [part.name for part in parts] == ["part-00000000.jsonl", "part-00000001.jsonl"]
    assert [answer["id"] for part in parts for answer in read(part)] == [1, 2, 3, 4]
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("none.jsonl", "out.jsonl", "must be a file that can be read again"),
        ("in.csv", "out.csv", "the name of an input must end in .jsonl, .jsonl.gz or .parquet"),
        ("in.jsonl", "out.parquet", "the name of the output must end in .jsonl, as the input's"),
        ("in.jsonl", "no/such/out.jsonl", "the folder of the output must exist and be writable"),
        ("in.jsonl", "in.jsonl", "the output exists already"),
        ("empty.jsonl", "out.jsonl", "the input has no rows"),
        ("mixed", "out.jsonl", "must have files of one kind, it has .jsonl and .parquet"),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path, capsys, source, target, message):
    (tmp_path / "in.csv").touch()
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "in.jsonl").write_text(lines_of([row(1)]))
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed/a.jsonl").touch()
    (tmp_path / "mixed/b.parquet").touch()

    assert main(["batch", "--input", str(tmp_path / source), "--output", str(tmp_path / target)]) in (1, 2)

    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")


def test_without_ray_the_error_names_the_extra(batch, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)

    code, _ = batch([row(1)], "--ray", "local")

    assert code == 1
    assert "pip install 'gliclass-rerank[ray]'" in capsys.readouterr().err


def started(tmp_path, tiny_folders, *options):
    """The command in a process of its own, on 400 rows in parts of a few."""
    source = tmp_path / "in.jsonl"
    if not source.exists():
        source.write_text(lines_of([row(number) for number in range(400)]))
    code = "import sys; from gliclass_rerank.cli.app import main; sys.exit(main())"
    arguments = ["batch", "--input", source, "--output", tmp_path / "out.jsonl", "--model", tiny_folders["bert"]]
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments), "--backend", "torch", "--part-bytes", "2000", *options],
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_parts(tmp_path, count):
    deadline = time.monotonic() + 300
    while len(list((tmp_path / "out.jsonl.partial").glob("part-*"))) < count:
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.slow
def test_a_killed_job_goes_on_and_answers_each_row_once_in_order(tmp_path, tiny_folders):
    process = started(tmp_path, tiny_folders)
    wait_for_parts(tmp_path, 3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out.jsonl.partial").glob("part-*")}
    assert not (tmp_path / "out.jsonl").exists()

    again = started(tmp_path, tiny_folders)
    assert again.communicate()[0] is None
    assert again.returncode == 0

    assert len(before) >= 3
    assert [answer["id"] for answer in read(tmp_path / "out.jsonl")] == list(range(400))
    assert not (tmp_path / "out.jsonl.partial").exists()


@pytest.mark.slow
def test_ctrl_c_ends_the_job_and_says_how_to_go_on(tmp_path, tiny_folders):
    process = started(tmp_path, tiny_folders)
    wait_for_parts(tmp_path, 1)
    process.send_signal(signal.SIGINT)
    error = process.communicate()[1]

    if process.returncode == 0:  # it was quicker
        pytest.skip("the job ended before the signal")
    assert process.returncode == 130
    assert "the same command goes on from there" in error
    assert "Traceback" not in error


def test_an_unfinished_job_goes_on_with_its_own_settings_and_input_only(batch, tmp_path, capsys, monkeypatch):
    rows = [row(1), row(2)]
    monkeypatch.setattr(Job, "finish", lambda self, num_parts, form: Count(0, 0))  # as if killed before
    assert batch(rows) == (0, None)
    capsys.readouterr()

    assert batch(rows)[0] == 2
    assert "had `input` [['" in capsys.readouterr().err  # the file was written anew

    (tmp_path / "out.jsonl.partial/_job.json").write_text("{")
    assert batch(rows)[0] == 2
    assert "the facts of an unfinished job cannot be read; delete '" in capsys.readouterr().err


def test_two_processes_cannot_work_on_one_job(tmp_path, tiny_folders, capsys):
    fcntl = pytest.importorskip("fcntl")
    source = tmp_path / "in.jsonl"
    source.write_text(lines_of([row(1)]))
    folder = tmp_path / "out.jsonl.partial"
    folder.mkdir()
    other = os.open(folder, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)

    assert main(["batch", "--input", str(source), "--output", str(tmp_path / "out.jsonl")]) == 2

    os.close(other)
    assert "another process works on" in capsys.readouterr().err


def test_parts_end_with_a_file_and_with_their_bytes(tmp_path):
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_bytes(b"1\n22\n\n333\n4")
    second.write_bytes(b"5\n")
    form = JsonlFormat([first, second], part_bytes=4)

    parts = list(form.parts(lambda number: number == 1))

    assert [(part.number, part.num_rows, part.rows is None) for part in parts] == [
        (0, 2, False),
        (1, 1, True),
        (2, 1, False),
        (3, 1, False),
    ]
    assert form.num_rows() == 6  # blank lines included: only a guess for the progress
    assert parts[2].rows.lines == ((5, b"4"),)


def test_a_folder_that_is_no_archive_is_read_as_files_are(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(files.DataError, match=r"a\.jsonl\.gz: cannot be read"):
        list(JsonlFormat([tmp_path / "a.jsonl.gz"], 100).parts(lambda _: False))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path, tiny_folders):
    """Rows of a megabyte each, of which only a part is ever in memory."""
    source = tmp_path / "in.jsonl"
    script = (
        "import resource, sys; from gliclass_rerank.cli.app import main; code = main(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024); sys.exit(code)"
    )
    peaks = []
    for count in (20, 400):
        with source.open("w") as handle:
            for number in range(count):
                handle.write(json.dumps({"query": "chain", "passages": ["oil"], "id": number, "blob": "x" * 1_000_000}))
                handle.write("\n")
        target = tmp_path / f"out-{count}.jsonl"
        arguments = ["batch", "--input", source, "--output", target, "--model", tiny_folders["bert"]]
        done = subprocess.run(
            [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout))
        assert len(target.read_text(encoding="utf-8").splitlines()) == count
    assert peaks[1] < peaks[0] + 64
