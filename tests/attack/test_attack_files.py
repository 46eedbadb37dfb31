"""Hostile data files: JSONL, TSV, gzip and JSON readers, and the command line over them."""

import gzip
import json
import os
import random
import resource

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gliclass_rerank import cli
from gliclass_rerank.errors import DataError
from gliclass_rerank.learn.data.records import read_records
from gliclass_rerank.learn.evaluation import files
from gliclass_rerank.learn.evaluation.collection import load_collection, read_judgments
from gliclass_rerank.learn.evaluation.files import read_json, read_jsonl, read_lines, read_tsv
from gliclass_rerank.learn.evaluation.passages import load_passages
from gliclass_rerank.learn.training.records import classification_record, ranking_record, read_labels

SECRET = "".join(f"{number:05}-secret " for number in range(800))
DIGITS = "9" * 5000
DEEP = 5000

GOOD = {
    "text": "a",
    "title": "b",
    "id": "c",
    "query": "q",
    "query_id": "q1",
    "doc_ids": ["c"],
    "passages": ["a", "b"],
    "passage_ids": ["c", "d"],
    "grades": [1, None],
    "teacher_scores": {"t": [0.5, 1]},
    "labels": ["x"],
    "all_labels": ["x", "y"],
    "examples": [{"text": "e", "labels": ["x"]}],
}
# Written as JSON, because most cannot be made by `json.dumps`.
ODD = {
    "null": "null",
    "true": "true",
    "number": "3",
    "float": "-1.5e3",
    "huge float": "1e999",
    "many digits": DIGITS,
    "negative digits": f"-{DIGITS}",
    "400 digits": DIGITS[:400],
    "300 digits": DIGITS[:300],
    "NaN": "NaN",
    "Infinity": "-Infinity",
    "empty": '""',
    "blank": '" \\t"',
    "half a pair": '"\\ud800"',
    "null byte": '"a\\u0000b"',
    "long": json.dumps(SECRET),
    "list": "[]",
    "list of long": json.dumps([SECRET, 3]),
    "list of numbers": "[1, 2]",
    "list of digits": f"[{DIGITS[:305]}, 1]",
    "list of 300 digits": f"[{DIGITS[:300]}, 1]",
    "list of NaN": "[NaN, Infinity]",
    "object": "{}",
    "object of long": json.dumps({SECRET: SECRET}),
    "object of lists": '{"t": [1, 2], "u": [1e999, 2]}',
    "deep list": "[" * DEEP + "]" * DEEP,
    "deep object": '{"a":' * DEEP + "1" + "}" * DEEP,
    "deep enough": "[" * 150 + "]" * 150,
    "unclosed": "[" * 60_000,
    "broken": '{"a": ',
}


def readers():
    return {
        "passages": lambda path: load_passages(path),
        "mining": lambda path: [record.to_line() for record in read_records(path)],
        "ranking": lambda path: [ranking_record(record) for record in read_jsonl(path)],
        "classification": lambda path: [classification_record(record, ["x"]) for record in read_jsonl(path)],
        "labels": read_labels,
    }


def line_with(key, value):
    return json.dumps(GOOD | {key: "@"}).replace('"@"', value)


@pytest.mark.parametrize("kind", list(readers()))
def test_odd_values_of_a_line(attack, tmp_path, kind):
    read, path = readers()[kind], tmp_path / "data.jsonl"
    cases = [(key, name) for key in GOOD for name in ODD]
    random.Random(kind).shuffle(cases)
    whole = [("whole line", name) for name in ODD]
    for key, name in [*whole, *cases[: attack.budget(8)]]:
        text = ODD[name] if key == "whole line" else line_with(key, ODD[name])
        path.write_text(f"{json.dumps(GOOD)}\n{text}\n" if kind != "labels" else f"{text}\n", encoding="utf-8")
        attack.attempt(f"files: {kind}", lambda: read(path), shown=(key, name), secret=SECRET)


@pytest.mark.parametrize("name", ["many digits", "deep list", "deep object", "unclosed", "deep enough", "400 digits"])
def test_what_python_cannot_parse_is_named_by_file_and_line(tmp_path, name):
    path = tmp_path / "data.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{line_with('extra', ODD[name])}\n", encoding="utf-8")

    with pytest.raises(DataError, match=r"data\.jsonl:2: "):
        list(read_records(path))


def test_lines_have_a_limit(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 1 << 20)
    path = tmp_path / "data.jsonl.gz"
    with gzip.open(path, "wb") as handle:
        handle.write(b'{"text": "a"}\n')
        for _ in range(64):
            handle.write(b" " * (1 << 20))

    with pytest.raises(DataError, match=r"data\.jsonl\.gz:2: a line may have 1 MiB, this is longer"):
        list(read_jsonl(path))


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "link to a fifo", "null byte", "long name"])
def test_what_is_no_file_is_refused_unopened(attack, tmp_path, kind):
    path = tmp_path / "data.jsonl"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to a fifo":
        os.mkfifo(tmp_path / "fifo")
        path.symlink_to(tmp_path / "fifo")
    else:
        path = tmp_path / {"null byte": "a\0.jsonl", "long name": f"{'n' * 5000}.jsonl"}[kind]
    calls = [lambda: list(read_lines(path)), lambda: read_json(path), lambda: read_labels(path)]
    calls += [lambda: list(read_tsv(path, 3)), lambda: load_passages(path)]
    for call in calls:
        assert attack.attempt("files: no files", call, shown=kind, limit_s=5) is None
        with pytest.raises(DataError):
            call()


def test_any_bytes_of_a_file(attack, tmp_path):
    path, chance = tmp_path / "data.jsonl", random.Random(4)
    zipped = gzip.compress("\n".join([json.dumps(GOOD)] * 9).encode())
    for turn in range(attack.budget(8)):
        raw = bytearray(("\n".join([json.dumps(GOOD)] * 3)).encode() if turn % 2 else zipped)
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(raw))
            raw[place : place + chance.randint(0, 9)] = chance.randbytes(chance.randint(0, 5))
        target = path if turn % 2 else tmp_path / "data.jsonl.gz"
        target.write_bytes(raw)
        for kind in ("passages", "mining", "ranking"):
            attack.attempt(f"files: {kind}", lambda kind=kind, target=target: readers()[kind](target), shown=bytes(raw))


def test_any_json_is_parsed_or_refused(attack, tmp_path):
    path = tmp_path / "data.jsonl"
    json_values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(GOOD)), inner, max_size=4),
        max_leaves=6,
    )

    @settings(max_examples=attack.budget(6), deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(st.sampled_from(sorted(GOOD)), json_values))
    def check(changes):
        path.write_text(json.dumps(GOOD | changes) + "\n", encoding="utf-8")
        for kind in ("mining", "ranking", "classification"):
            attack.attempt(f"files: {kind}", lambda kind=kind: readers()[kind](path), shown=changes)

    check()


def test_odd_judgements(attack, tmp_path):
    path = tmp_path / "qrels.test.tsv"
    grades = [
        DIGITS,
        f"-{DIGITS}",
        DIGITS[:400],
        "1e3",
        "NaN",
        "",
        " 1 ",
        "\u0661",
        "0x1",
        "1_0",
        SECRET,
        "1000001",
        "1",
    ]
    for grade in grades:
        path.write_text(f"q\td\t{grade}\n", encoding="utf-8")
        attack.attempt("files: judgements", lambda: list(read_judgments(path)), shown=grade, secret=SECRET)
    for text in ("q\td", "q\td\t1\t2", "\t\t", "\0\t\0\t1", f"{SECRET}\t{SECRET}\tx", "q\td\t1\r\n" * 3):
        path.write_text(text, encoding="utf-8")
        attack.attempt("files: judgements", lambda: list(read_judgments(path)), shown=text, secret=SECRET)


def test_odd_collections(attack, tmp_path):
    chance = random.Random(9)
    good = {
        "queries.jsonl": json.dumps({"id": "q", "text": "a"}),
        "corpus.jsonl": json.dumps({"id": "d", "text": "a"}),
        "candidates.jsonl": json.dumps({"query_id": "q", "doc_ids": ["d"]}),
        "qrels.test.tsv": "q\td\t1",
    }
    (tmp_path / "data").mkdir()
    for _ in range(attack.budget(6)):
        for name, text in good.items():
            (tmp_path / "data" / name).write_text(text, encoding="utf-8")
        name = chance.choice(list(good))
        text = chance.choice(
            [*ODD.values(), "", good[name] * 2, f"{good[name]}\n{good[name]}", good[name].replace("d", SECRET)]
        )
        (tmp_path / "data" / name).write_text(text, encoding="utf-8")
        split = chance.choice(["test", "test", "test", SECRET, "\0", "../x", "*"])
        attack.attempt(
            "files: collection", lambda split=split: load_collection(tmp_path / "data", split), secret=SECRET
        )


def test_the_command_line_ends_with_one_line(attack, tmp_path, capsys):
    """In this process: each start takes seconds."""
    path = tmp_path / "data.jsonl"
    names = ["deep list", "many digits", "unclosed", "long", "half a pair", "broken", "NaN"]
    commands = [["rank", "--query", "q", "--passages", str(path)]]
    for name in names[: attack.budget(3)]:
        path.write_text(f"{line_with('text', ODD[name])}\n", encoding="utf-8")
        argv = [*commands[0][:-1], str(path), "--model", str(tmp_path / "none")]
        code = attack.attempt("command line", lambda argv=argv: cli.main(argv), shown=name)
        said = capsys.readouterr().err
        assert code == 1
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        assert len(said) < 400
    for argv in (
        ["rank", "--query", SECRET, "--passages", SECRET],
        ["evaluate", "--data", SECRET, "--split", SECRET],
        ["rank", "--query", "q", "--passages", "/dev/zero"],
        ["mine", "--data", SECRET, "--out", str(tmp_path / "x.jsonl")],
    ):
        code = attack.attempt("command line", lambda argv=argv: cli.main(argv), shown=argv[0], limit_s=20)
        assert code == 1


def test_a_file_that_grows_memory_is_refused_in_little(tmp_path, monkeypatch):
    """A gzipped line of 4 GB takes 4 MB on the disk."""
    path = tmp_path / "bomb.jsonl.gz"
    block = gzip.compress(b" " * (1 << 24), 9)
    path.write_bytes(block * 8)
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 1 << 22)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(DataError, match="this is longer"):
        list(read_jsonl(path))

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
