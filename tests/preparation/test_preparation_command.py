import json
import subprocess
import sys

import pytest
from preparation_data import LABELS, classified, read_lines, write_lines

from gliclass_rerank import cli
from gliclass_rerank.examples import ExampleStore


@pytest.fixture
def run(capsys):
    def invoke(*arguments):
        code = cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return invoke


@pytest.fixture
def source(tmp_path):
    return write_lines(tmp_path / "in.jsonl", classified(9))


def test_rac_data_prints_and_writes_what_was_made(run, source, tmp_path):
    out, statistics = tmp_path / "out.jsonl", tmp_path / "statistics.json"
    code, printed, _ = run(
        *("rac-data", "--data", source, "--out", out, "--records", 8, "--min-examples", 2, "--max-examples", 2),
        *("--random-share", 0, "--drop-false-share", 0, "--false-labels", 1, "--seed", 3, "--device", "cpu"),
        *("--statistics", statistics),
    )
    assert code == 0
    rows = dict(line.split(maxsplit=1) for line in printed.replace("true labels", "true").splitlines())
    assert rows["records"] == "8  (0 with 0, 0 with 1, 8 with 2)"
    assert rows["examples"] == "16  (16 similar, 0 random)"
    assert rows["written"] == str(out)
    made = json.loads(statistics.read_text())
    assert (made["num_records"], made["num_examples"], made["num_false_labels"]) == (8, 16, 16)
    assert len(read_lines(out)) == 8


def test_rac_data_prints_json_and_reads_labels_from_a_file(run, tmp_path):
    records = [{"text": record["text"], "labels": record["labels"]} for record in classified(9)]
    source = write_lines(tmp_path / "in.jsonl", records)
    (tmp_path / "names.json").write_text(json.dumps(LABELS))
    out = tmp_path / "out.jsonl"
    code, printed, _ = run(
        "rac-data", "--data", source, "--out", out, "--labels", tmp_path / "names.json", "--device", "cpu", "--json"
    )
    assert code == 0
    assert json.loads(printed)["num_records"] == 9
    assert read_lines(out)[0]["all_labels"] == list(LABELS)


def test_pseudo_label_writes_records_and_fills_a_store(run, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"{record['text']}\n" for record in classified(9)))
    out, store = tmp_path / "out.jsonl", tmp_path / "judged.db"
    asked = ("pseudo-label", "--texts", texts, "--label", "brakes", "--label", "saddle", "--threshold", 0)
    code, printed, _ = run(*asked, "--out", out, "--per-label", 2, "--store", store, "--device", "cpu")
    assert code == 0
    assert printed.splitlines()[0].split() == ["texts", "9", "(0", "repeated)"]
    lines = read_lines(out)
    with ExampleStore(store, read_only=True) as opened:
        assert {stored.example.text for stored in opened} == {line["text"] for line in lines}
    code, printed, _ = run(*asked, "--out", tmp_path / "json.jsonl", "--device", "cpu", "--json")
    assert json.loads(printed)["num_kept"] == 9


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (
            ("rac-data", "--data", "absent.jsonl", "--out", "x.jsonl", "--device", "cpu"),
            "absent.jsonl: no such file",
            1,
        ),
        (("rac-data", "--data", "in.jsonl", "--out", "x.json"), "the name of the output must end in .jsonl", 2),
        (("rac-data", "--data", "in.jsonl", "--out", "x.jsonl", "--max-examples", "9"), "must ascend", 2),
        (("rac-data", "--data", "in.jsonl", "--out", "x.jsonl", "--encoder", "absent"), "a model must be a folder", 1),
        (("pseudo-label", "--texts", "t.txt", "--out", "x.jsonl"), "`--label` or `--labels` must name the labels", 2),
        (
            ("pseudo-label", "--texts", "t.txt", "--out", "x.jsonl", "--labels", "absent.json"),
            "absent.json: cannot be read: No such file or directory",
            1,
        ),
    ],
)
def test_errors_are_one_sentence(run, source, tmp_path, monkeypatch, arguments, message, code):
    monkeypatch.chdir(tmp_path)
    found, printed, error = run(*arguments)
    assert (found, printed) == (code, "")
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_importing_the_commands_loads_no_model_library():
    script = (
        "import sys, gliclass_rerank.learn.data.rac_command;"
        "print([name for name in ('torch', 'faiss', 'sentence_transformers') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
